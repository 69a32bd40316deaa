#!/bin/sh
# Makes .venv-dynamo in the repository root: the real ai-dynamo wheels, every file checked against its hash.
# To raise a version: edit the .in files, then for each
#   uv pip compile --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 IN -o LOCK
# with --no-deps for the wheels.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
venv="$root/.venv-dynamo"
"${PYTHON:-python3.11}" -m venv --clear "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$root/requirements-dynamo.lock"
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --no-deps \
    -r "$root/requirements-dynamo-wheels.lock"
"$venv/bin/python" -c "import dynamo._core, dynamo.frontend, dynamo.mocker; print('ai-dynamo is installed in $venv')"
