"""Stage `export`: write a data set as files, in the layout that data set `folder` reads."""

import logging
from typing import Any

from xmnist import data
from xmnist.config.settings import ExportSettings
from xmnist.data import voc
from xmnist.runs import claims
from xmnist.runs.store import Run

log = logging.getLogger(__name__)


def check(settings: ExportSettings) -> None:
    """Check, before anything is written, whether the data are available.

    Raises:
        InputError: they are not; the message states why.
    """
    dataset = data.dataset_of(settings.dataset)
    dataset.info()
    if not dataset.drawn:
        dataset.parts(settings.data_dir)


def main(settings: ExportSettings, typed: str) -> dict[str, Any]:
    """Write `train/` and `test/` into the run, unless that is done already."""
    run = Run("export", settings)
    with claims.claim(run, typed) as to_do:
        if to_do:
            train, test, info = data.parts(settings.dataset, settings.data_dir)
            for name, split in (("train", train), ("test", test)):
                log.info("writing %d images: %s", len(split), run.path / name)
                voc.write(split, info.classes, run.path / name)
            run.write_json("metrics.json", {"images": {"train": len(train), "test": len(test)}})
        run.log_summary("done" if to_do else "already done")
    return run.metrics()
