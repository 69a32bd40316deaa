"""Records what the real ai-dynamo writes, for the tests that run without it::

    tests/interop/install.sh && .venv/bin/python -m tests.interop.record_golden

writes ``tests/golden/dynamo/``: ``mdcsum.jsonl`` (cards, each with the checksum a stock front end gave it) and
``stock-*.json`` (model records as stock workers wrote them). ``form-*.json`` stay: each names its own source.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.interop.cards import CASES, stock_sums
from tests.interop.stock import PYTHON, REPOSITORY, StockFleet, stock_fleet
from tests.simulator.models import TEXT_TEMPLATE, write_text_model, write_vl_model

GOLDEN: Final = REPOSITORY / "tests/golden/dynamo"
MODELS: Final = Path("/tmp/placecard-golden")  # stands in the records, so it is the same each time

# What only the Python binding can say: router settings, needs, aliases, an operator's own template, an adapter.
REGISTER: Final = """
import asyncio
from dynamo._core import *

async def main():
    runtime = DistributedRuntime(asyncio.get_running_loop(), "file", "tcp")
    chat, model = ModelType.Chat | ModelType.Completions, "MODELS/tiny-text"
    await register_model(
        ModelInput.Tokens, chat, runtime.endpoint("one.backend.generate"), model, "decoder",
        worker_type=WorkerType.Decode, needs=[[WorkerType.Prefill]], kv_cache_block_size=32, model_aliases=["d1", "d2"],
        router_config=RouterConfig(RouterMode.KV), custom_template_path="MODELS/mine.jinja", user_data={"team": "a"},
        self_host_metadata=False,
    )
    await register_model(
        ModelInput.Tokens, chat, runtime.endpoint("two.backend.generate"), model, "adapter",
        worker_type=WorkerType.Aggregated, kv_cache_block_size=16, lora_name="My.Adapter", base_model_path=model,
        self_host_metadata=False,
    )

asyncio.run(main())
"""


def main() -> None:
    """Record everything anew."""
    shutil.rmtree(MODELS, ignore_errors=True)
    text, vision = write_text_model(MODELS / "tiny-text"), write_vl_model(MODELS / "tiny-vl")
    (MODELS / "mine.jinja").write_text(TEXT_TEMPLATE)
    for name, model, self_host in (
        ("hosted-vl", vision, True),
        ("hosted-text", text, True),
        ("path-vl", vision, False),
    ):
        with stock_fleet(MODELS / f"fleet-{name}") as fleet:
            _write(f"stock-{name}", fleet.mocker(model, f"tiny-{name}", self_host=self_host))
    with stock_fleet(MODELS / "fleet-registered") as fleet:
        for record in _register(fleet):
            _write(f"stock-registered-{record['card_json']['slug']}", record)
    recorded = {path.stem: json.loads(path.read_bytes())["card_json"] for path in sorted(GOLDEN.glob("stock-*.json"))}
    plain = {name: card for name, card in recorded.items() if "lora" not in card}
    with stock_fleet(MODELS / "fleet-sums") as fleet:
        cards = CASES | plain
        sums = stock_sums(fleet, cards)
    vectors = [{"case": name, "mdcsum": sums[name], "card": card} for name, card in cards.items()]
    lines = "\n".join(json.dumps(vector, ensure_ascii=False) for vector in vectors)
    (GOLDEN / "mdcsum.jsonl").write_text(lines + "\n", encoding="utf-8")
    shutil.rmtree(MODELS)


def _register(fleet: StockFleet) -> list[dict[str, Any]]:
    for part in ("home", "tmp", "kv"):
        (fleet.directory / part).mkdir(parents=True, exist_ok=True)
    script = REGISTER.replace("MODELS", str(MODELS))
    subprocess.run([str(PYTHON), "-c", script], env=fleet.environment, check=True, timeout=60)
    return fleet.records()


def _write(name: str, value: dict[str, Any]) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False)
    (GOLDEN / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
