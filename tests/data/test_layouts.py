"""Which files of a folder are data: twenty folders as the world has them, and any folder at all."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmnist.config import defaults, resolution
from xmnist.config.settings import of_plain
from xmnist.data import fingerprint, layouts
from xmnist.runtime.errors import InputError


def laid_out(root: Path, files: str) -> Path:
    """A folder with these files, each named once; `{1..3}` stands for three."""
    for word in files.split("\n"):
        word = word.strip()
        if not word:
            continue
        name, _, content = word.partition(" = ")
        low, _, high = name.partition("{")[2].partition("}")[0].partition("..")
        for number in range(int(low), int(high) + 1) if high else [0]:
            path = root / name.replace(f"{{{low}..{high}}}", str(number))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content.replace("|", "\n") or name)
    return root


WORLD = {
    "ImageNet": (
        "train/n01440764/n01440764_{1..3}.JPEG\ntrain/n02119789/n02119789_{1..3}.JPEG\n"
        "val/n01440764/ILSVRC_{1..2}.JPEG\nval/n02119789/ILSVRC_{3..4}.JPEG",
        "10 images: n01440764 5, n02119789 5; val/ is tested on: there is no test/",
    ),
    "Chest X-ray": (
        "train/NORMAL/IM-{1..3}.jpeg\ntrain/PNEUMONIA/p{1..4}.jpeg\nval/NORMAL/IM-9.jpeg\nval/PNEUMONIA/p9.jpeg\n"
        "test/NORMAL/IM-{5..6}.jpeg\ntest/PNEUMONIA/p{5..6}.jpeg\ntrain/.DS_Store\n__MACOSX/train/NORMAL/._IM-1.jpeg",
        "13 images: NORMAL 6, PNEUMONIA 7; val/ is trained on: dataset.validation is drawn from both; "
        "left out: 2 hidden",
    ),
    "Kaggle's cats and dogs": (
        "train/cat.{0..3}.jpg\ntrain/dog.{0..3}.jpg\ntest1/{1..3}.jpg",
        "in no folder of a class",
    ),
    "PlantVillage, in its archive's folder": (
        "PlantVillage/Tomato_healthy/{1..3}.JPG\nPlantVillage/Potato___Late_blight/{1..3}.JPG",
        "6 images: Potato___Late_blight 3, Tomato_healthy 3; read from PlantVillage/",
    ),
    "BUSI (several masks an image)": (
        "benign/benign ({1..3}).png\nbenign/benign ({1..3})_mask.png\nbenign/benign (1)_mask_1.png\n"
        "malignant/malignant ({1..2}).png\nmalignant/malignant ({1..2})_mask.png",
        "5 images: benign 3, malignant 2; masks of all, those of 1 images united of several",
    ),
    "Oxford-IIIT Pet": (
        "images/Abyssinian_{1..3}.jpg\nimages/beagle_{1..3}.jpg\nannotations/trimaps/Abyssinian_1.png\n"
        "annotations/list.txt",
        "holds 6 images without a class",
    ),
    "CUB-200": (
        "images/001.Albatross/a_{1..3}.jpg\nimages/002.Auklet/b_{1..3}.jpg\nclasses.txt = 1 001.Albatross|2 002.Auklet",
        "6 images: 001.Albatross 3, 002.Auklet 3",
    ),
    "VOCdevkit": (
        "VOC2012/JPEGImages/2007_{1..3}.jpg\nVOC2012/Annotations/2007_{1..3}.xml\n"
        "VOC2012/SegmentationClass/2007_{1..3}.png",
        "JPEGImages holds 3 images without a class",
    ),
    "Roboflow, folders": (
        "train/cat/a_jpg.rf.{1..3}.jpg\ntrain/dog/b_jpg.rf.{1..3}.jpg\nvalid/cat/c.jpg\nvalid/dog/d.jpg\ntest/cat/e.jpg\n"
        "test/dog/f.jpg\nREADME.roboflow.txt\nREADME.dataset.txt",
        "10 images: cat 5, dog 5; valid/ is trained on: dataset.validation is drawn from both; left out: 2 other files",
    ),
    "Roboflow, COCO": (
        "train/a{1..3}.jpg\ntrain/_annotations.coco.json\nvalid/b.jpg\nvalid/_annotations.coco.json\ntest/c.jpg",
        "holds 3 images in no folder of a class: it needs one folder of images for each class; "
        "_annotations.coco.json is not read",
    ),
    "LabelImg beside its images": (
        "cat/{1..3}.jpg\ncat/{1..3}.xml\ndog/{1..2}.jpg\ndog/{1..2}.xml\ndog/classes.txt",
        "5 images: cat 3, dog 2; boxes of all; left out: 1 other file",
    ),
    "CVAT, segmentation masks": (
        "JPEGImages/{1..3}.jpg\nSegmentationClass/{1..3}.png\nImageSets/Segmentation/default.txt\nlabelmap.txt",
        "JPEGImages holds 3 images without a class",
    ),
    "Label Studio, JSON": ("images/{1..3}.jpg\nresult.json", "images holds 3 images without a class"),
    "ISIC, renamed to data.csv": (
        "images/ISIC_{1..4}.jpg\nmasks/ISIC_{1..3}.png\n"
        "data.csv = image_id;label|ISIC_1;nevus|ISIC_2;nevus|ISIC_3;melanoma|ISIC_4;melanoma",
        "4 images: melanoma 2, nevus 2; masks 3 of 4 (none used: ISIC_4.jpg has none)",
    ),
    "HAM10000": (
        "HAM10000_images_part_1/ISIC_{1..3}.jpg\nHAM10000_images_part_2/ISIC_{4..6}.jpg\nHAM10000_metadata.csv = a,b",
        "6 images: HAM10000_images_part_1 3, HAM10000_images_part_2 3; left out: 1 other file",
    ),
    "MVTec AD": (
        "train/good/{1..3}.png\ntest/good/{4..5}.png\ntest/broken/{1..2}.png\nground_truth/broken/1_mask.png",
        "has images of one class only: good",
    ),
    "Teachable Machine": (
        "Class 1/{0..2}.jpg\nClass 2/{0..2}.jpg\n.ipynb_checkpoints/x.jpg",
        "6 images: Class 1 3, Class 2 3",
    ),
    "phones (HEIC, JFIF, Live Photos)": (
        "a/IMG_{1..3}.jfif\na/IMG_9.HEIC\nb/IMG_{4..6}.JPG\nb/IMG_4.MOV",
        "6 images: a 3, b 3; left out: 1 .heic, 1 other file",
    ),
    "photographs that are called masks": ("a/{1..2}_mask.png\na/x.png\nb/{3..4}_mask.png", "5 images: a 3, b 2"),
    "images/CLASS and masks/CLASS": (
        "images/a/{1..2}.png\nmasks/a/{1..2}.png\nimages/b/{3..4}.png\nmasks/b/{3..4}_mask.png\nmasks/b/9.png",
        "4 images: a 2, b 2; masks of all; left out: 1 in no folder of a class",
    ),
    "categories above the classes": (
        "x/a/{1..2}.png\nx/b/{1..2}.png\ny/c/1.png",
        "holds images deeper than in one folder",
    ),
    "images deeper than their class": (
        "a/{1..2}.png\na/more/{3..5}.png\nb/{1..2}.png\nc/notes.txt",
        "4 images: a 2, b 2; left out: 3 in subfolders, 1 other file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WORLD)
def test_a_folder_of_the_world_is_read_as_it_is_meant_or_refused(tmp_path: Path, name: str) -> None:
    files, told = WORLD[name]
    root = laid_out(tmp_path, files)
    layouts.listed.cache_clear()
    try:
        listing = layouts.listed(str(root))
        kinds = [all(e.masks for e in listing.entries), all(e.boxes for e in listing.entries)]
        line = listing.line("images" if kinds[0] else "boxes" if kinds[1] else "none")
    except InputError as error:
        line = str(error)
    assert told in line and "\n" not in line


def test_the_table_in_the_docs_has_these_folders() -> None:
    text = (Path(defaults.conf_dir()).parent / "docs" / "data.md").read_text(encoding="utf-8")
    for name in WORLD:
        assert f"| {name} |" in text


TABLES = {
    "semicolons": b"imageID;label\n1;a\n2;a\n3;b\n",
    "tabs": b"imageID\tlabel\n1\ta\n2\ta\n3\tb\n",
    "other names, blanks": b"label , Image ID\na , 1\na , 2.png\n\nb , 3\n",
    "UTF-16": "imageID,label\n1,a\n2,a\n3,b\n".encode("utf-16"),
    "BOM": b"\xef\xbb\xbfimageID,label\r\n1,a\r\n2,a\r\n3,b\r\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_other_programs_are_read(tmp_path: Path, name: str) -> None:
    root = laid_out(tmp_path, "images/a/{1..2}.png\nimages/b/3.png\nimages/b/4.png")
    (root / "data.csv").write_bytes(TABLES[name])
    listing = layouts.listed(str(root))
    assert [(entry.image.name, entry.label) for entry in listing.entries] == [
        ("1.png", "a"),
        ("2.png", "a"),
        ("3.png", "b"),
    ]
    assert listing.line("none").endswith("left out: 1 not in data.csv")


def test_names_are_the_same_however_accents_are_written(tmp_path: Path) -> None:
    root = laid_out(
        tmp_path, "images/Ka\u0308fer/a\u0308.png\nimages/Fl\u00f6he/o\u0308.png\nmasks/Ka\u0308fer/\u00e4_mask.png"
    )
    (root / "data.csv").write_text("imageID,label\n\u00e4,K\u00e4fer\no\u0308,Flo\u0308he\n", encoding="utf-8")
    listing = layouts.listed(str(root))
    assert listing.classes == ("Fl\u00f6he", "K\u00e4fer") and len(listing.entries[0].masks) == 1


NAMES = [
    "1.png",
    "2.jpg",
    "1_mask.png",
    "1_mask_1.png",
    "2_mask.png",
    "9_mask.png",
    "1.xml",
    "8.XML",
    "x.JFIF",
    "y.heic",
]
NAMES += [".DS_Store", "._1.png", "notes.txt", "data.csv", "classes.txt", "a\u0308.png", "\u00e4_mask.png", "empty"]
FOLDERS = [
    "",
    "a",
    "b",
    "a/more",
    ".ipynb_checkpoints",
    "__MACOSX/a",
    "images/a",
    "masks/a",
    "annotations/a",
    "train/a",
]
FOLDERS += ["train/b", "test/a", "val/b", "deep/er/a", "images", "mask"]


@settings(max_examples=300, deadline=None)
@given(st.sets(st.tuples(st.sampled_from(FOLDERS), st.sampled_from(NAMES)), min_size=1, max_size=40))
def test_every_file_of_any_folder_is_read_or_left_out_with_its_reason_or_the_folder_is_refused(
    tree: set[tuple[str, str]],
) -> None:
    root = Path(tempfile.mkdtemp())
    try:
        files = set()
        for folder, name in sorted(tree):
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            content = {"data.csv": "imageID,label\n1,a\n2,b\n", "classes.txt": "b\na\n"}
            path.write_text(content.get(name, ""), encoding="utf-8")
            files.add(path)
        layouts.listed.cache_clear()
        try:
            listing = layouts.listed(str(root))
        except InputError as error:
            assert "\n" not in str(error) and str(root) in str(error)
            return
        left = [path for paths in listing.left_out.values() for path in paths]
        assert sorted([*listing.read(), *left]) == sorted(files)
        hidden = {p for p in files if any(part.startswith((".", "__MACOSX")) for part in p.relative_to(root).parts)}
        assert hidden == set(listing.left_out.get("hidden", ()))
        assert all(entry.image.suffix.lower() in layouts.SUFFIXES for entry in listing.entries)
    finally:
        shutil.rmtree(root)


def test_a_run_is_named_by_what_lies_in_the_folder(tmp_path: Path) -> None:
    from helpers import composed
    from xmnist.runs.store import run_id

    def name(root: Path, *words: str) -> str:
        layouts.listed.cache_clear()
        fingerprint.of_folder.cache_clear()
        return run_id("train", resolution.resolve(composed("dataset=folder", f"dataset.path={root}", *words)))

    root = laid_out(tmp_path / "one", "a/{1..3}.png\nb/{1..3}.png")
    first = name(root)
    copy = tmp_path / "two"
    shutil.copytree(root, copy)
    assert name(copy) == first
    laid_out(copy, ".DS_Store\n__MACOSX/a/._1.png\na/notes.txt\na/outputs/grid.png")
    assert name(copy) == first  # nothing of that is read
    (copy / "a" / "1.png").write_text("A/1.png"), (copy / "a" / "2.png").write_text("a/{1..3}.png")
    changed = name(copy)
    assert changed != first
    for source, target in (("a/1.png", "x"), ("b/1.png", "a/1.png"), ("x", "b/1.png")):  # labels exchanged
        (copy / source).rename(copy / target)
    assert name(copy) not in (first, changed)
    assert name(root, "dataset.background=black") != first
    settings = resolution.resolve(composed("dataset=folder", f"dataset.path={root}"))
    shutil.rmtree(root)
    assert run_id("train", settings) == first
    told = {k: v for k, v in settings.dataset.plain().items() if k not in ("fingerprint", "train")}
    old = of_plain("train", settings.plain() | {"dataset": told})
    assert run_id("train", old) != first and run_id("train", old).startswith("layer=dense")
