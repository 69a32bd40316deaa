"""Families of models: which take images, which processors need a file of their own, which files tokenizers read.

Frozen from transformers, so that a directory is judged alike where it is not installed. A test compares each table with
the release that is; after an upgrade it shows what has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Source: transformers 5.23.0, models/auto/image_processing_auto.py: keys of IMAGE_PROCESSOR_MAPPING_NAMES.
IMAGE_PROCESSOR_TYPES: Final = frozenset(
    """
    aimv2 aimv2_vision_model align altclip aria aya_vision beit bit blip blip-2 bridgetower chameleon chinese_clip
    chmv2 clip clipseg cohere2_vision cohere_compass colpali colqwen2 conditional_detr convnext convnextv2
    cosmos3_edge cosmos3_omni cvt data2vec-vision deepseek_ocr2 deepseek_vl deepseek_vl_hybrid deformable_detr
    deimv2 deit depth_anything depth_pro detr dinat dinov2 dinov3_vit donut-swin dots3_note dpt edgetam
    efficientloftr efficientnet embedding_gemma2 emu3 eomt eomt_dinov3 ernie4_5_vl_moe exaone4_5 flava florence2
    focalnet fuyu gemma3 gemma3n gemma4 gemma4_unified git glm46v glm4v glm5_next glm_image glmga glpn got_ocr2
    granite4_vision granite_docling grounding-dino groupvit hiera hunyuan_vl hyperclovax_vision_v2 idefics idefics2
    idefics3 ijepa imagegpt inkling2 inkling_mm_model instructblip internvl janus kimi_k25 kosmos-2 kosmos-2.5
    layoutlmv2 layoutlmv3 layoutxlm levit lfm2_vl lfm3_vl lightglue lighton_ocr llama4 llava llava_next
    llava_next_video llava_onevision lw_detr mask2former maskformer metaclip_2 mgp-str minicpm_ocr minicpmv4_6
    minicpmv4_7 minimax_m3_vl mistral3 mistral_large4 mlcd mllama mm-grounding-dino mobilenet_v1 mobilenet_v2
    mobilevit mobilevitv2 molmo2 muse_glimmer muse_spark nemotron_h_omni neomme nougat omdet-turbo oneformer ovis2
    owlv2 owlvit paddleocr_vl paligemma perceiver perception_lm phi4_multimodal pi0 pix2struct pixio pixtral
    poolformer pp_chart2table pp_doclayout_v2 pp_doclayout_v3 pp_doclayout_v4 pp_formulanet pp_lcnet
    pp_ocrv5_mobile_det pp_ocrv5_mobile_rec pp_ocrv5_server_det pp_ocrv5_server_rec pp_ocrv6_medium_det
    pp_ocrv6_small_det pp_ocrv6_small_rec pp_ocrv6_tiny_rec prompt_depth_anything pvt pvt_v2 qianfan_ocr
    qwen2_5_omni qwen2_5_vl qwen2_vl qwen3_5 qwen3_5_moe qwen3_omni_moe qwen3_vl qwen4_exp regnet resnet rf_detr
    rt_detr sam sam2 sam2_video sam3 sam3_lite_text sam3_tracker sam3_tracker_video sam3_video sam_hq sapiens2
    segformer seggpt shieldgemma2 siglip siglip2 slanet slanext smolvlm step3p7 superglue superpoint swiftformer
    swin swin2sr swinv2 t5gemma2 t5gemma2_encoder table-transformer textnet timesformer timm_wrapper tipsv2
    tipsv2_dpt trocr tvp udop ultravbert unlimited_ocr upernet uvdoc video_llama_3 video_llava videomae vilt
    vipllava vit vit_mae vit_msn vitmatte vitpose vivit xclip yolos zoedepth
    """.split()  # noqa: SIM905 - one to a line would be a page
)

# Of those, types whose models may do without the file: perceiver has text models, timm_wrapper reads config.json alone.
# Source: transformers 5.23.0, models/timm_wrapper/image_processing_timm_wrapper.py: get_image_processor_dict.
NO_FILE_TYPES: Final = frozenset({"perceiver", "timm_wrapper"})

# Types that engines serve with code of the model's repository; transformers has no image processor for them, and the
# configurations of some hold nothing else that tells.
# Source: vLLM at 0036026, transformers_utils/config.py (deepseek_vl_v2, internvl_chat, NVLM_D, ovis); the repositories'
# own configuration classes (minicpmv, molmo, multi_modality, phi3_v, phi4mm).
FOREIGN_IMAGE_TYPES: Final = frozenset(
    {"NVLM_D", "deepseek_vl_v2", "internvl_chat", "minicpmv", "molmo", "multi_modality", "ovis", "phi3_v", "phi4mm"}
)

PROCESSOR_ARGUMENTS: Final[Mapping[str, str]] = {
    "Granite4VisionProcessor": "patch_size",
    "InstructBlipProcessor": "num_query_tokens",
    "InstructBlipVideoProcessor": "num_query_tokens",
    "LlavaNextProcessor": "patch_size",
    "LlavaNextVideoProcessor": "patch_size",
    "LlavaOnevisionProcessor": "num_image_tokens",
    "LlavaProcessor": "patch_size",
    "PerceptionLMProcessor": "patch_size",
}
"""Processor class to the argument that it computes with and has no default for: only ``processor_config.json`` has it.

Source: transformers 5.23.0, models/*/processing_*.py: ``__init__`` says None, and a method divides or multiplies by it.
"""

PROCESSOR_OF_TYPE: Final[Mapping[str, str]] = {
    "granite4_vision": "Granite4VisionProcessor",
    "instructblip": "InstructBlipProcessor",
    "instructblipvideo": "InstructBlipVideoProcessor",
    "llava": "LlavaProcessor",
    "llava_next": "LlavaNextProcessor",
    "llava_next_video": "LlavaNextVideoProcessor",
    "llava_onevision": "LlavaOnevisionProcessor",
    "perception_lm": "PerceptionLMProcessor",
    "vipllava": "LlavaProcessor",
}
"""Model type to its processor class where no file names one; of :data:`PROCESSOR_ARGUMENTS` alone.

Source: transformers 5.23.0, models/auto/processing_auto.py: PROCESSOR_MAPPING_NAMES.
"""

# Source: transformers 5.23.0, models/*/tokenization_*.py: `vocab_files_names` of the classes that name nothing else.
_VOCABULARIES: Final[Mapping[str, str]] = {
    "byte_maps.json": "MyT5",
    "prophetnet.tokenizer": "ProphetNet",
    "sentencepiece.bpe.model": "Barthez Camembert LayoutXLM MBart MBart50 Nllb PLBart SeamlessM4T XLMRoberta",
    "sentencepiece.model": "RemBert",
    "spiece.model": "Albert BertGeneration BigBird Cpm FNet GPTSw3 Lasr Pegasus Reformer Siglip T5 Udop VideoPrism "
    "XLNet",
    "spm.model": "DebertaV2",
    "spm_char.model": "SpeechT5",
    "tokenizer.model": "CodeLlama Llama Parakeet Tipsv2",
    "vocab.txt": "Bert CpmAnt DPRQuestionEncoder Esm Funnel LayoutLMv2 Lxmert MPNet MobileBert RoFormer Splinter Tapas",
}
VOCABULARY_OF_TOKENIZER: Final[Mapping[str, str]] = {
    f"{name}Tokenizer": file for file, names in _VOCABULARIES.items() for name in names.split()
} | {"QWenTokenizer": "qwen.tiktoken", "TikTokenTokenizer": "tiktoken.model", "MistralCommonTokenizer": "tekken.json"}
"""Tokenizer class to the one file that it reads where there is no ``tokenizer.json``.

Source: as above; the repositories of Qwen and Kimi K2; mistral-common.
"""

NO_FILE_TOKENIZERS: Final = frozenset({"ByT5Tokenizer", "CanineTokenizer", "DiaTokenizer", "PerceiverTokenizer"})
"""Tokenizers of bytes or characters, which read no file. Source: as above: an empty ``vocab_files_names``."""

TOKENIZER_OF_TYPE: Final[Mapping[str, str]] = {
    "albert": "AlbertTokenizer",
    "bert": "BertTokenizer",
    "camembert": "CamembertTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "distilbert": "BertTokenizer",
    "electra": "BertTokenizer",
    "mbart": "MBartTokenizer",
    "mpnet": "MPNetTokenizer",
    "mt5": "T5Tokenizer",
    "pegasus": "PegasusTokenizer",
    "t5": "T5Tokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "xlnet": "XLNetTokenizer",
}
"""Model type to the tokenizer class where no file names one, for types with a vocabulary that is all their own.

Source: transformers 5.23.0, models/auto/tokenization_auto.py: TOKENIZER_MAPPING_NAMES.
"""
