"""The command ``geobody``: one line in `COMMANDS` and one function for each of its subcommands.

Errors that a user can cure end in one line: exit code 2 for params and arguments, 3 for data. Whatever
is slow to import is imported by the function that needs it.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from geobody.config import Params, load_params
from geobody.errors import DataError, GeobodyError
from geobody.threads import pin_threads

PARAMS_FILE = Path("params.yaml")
INTERRUPTED = 130


def check(arguments: argparse.Namespace) -> None:
    """Says what a data set holds, what it lacks and what is left out."""
    from geobody.data.check import Wanted, page, survey

    params = _params() if PARAMS_FILE.exists() or arguments.root is None else None
    wanted = Wanted()
    if params:
        settings = params.dataset
        exclude = tuple((exclusion.folder, exclusion.reason) for exclusion in settings.exclude)
        wanted = Wanted((*settings.train_subjects, *settings.test_subjects), settings.cameras, exclude)
    root = arguments.root or Path(_params().dataset.root)
    found = survey(root, wanted)
    print(page(found, wanted, everything=arguments.all))
    faults = len(found.faults)
    if params and arguments.root is None:
        for look in (_prior, _body):
            try:
                print(look(params))
            except DataError as error:
                print(f"FAULT: {error}")
                faults += 1
    if faults:
        what = "1 fault" if faults == 1 else f"{faults} faults"
        raise DataError(root, f"{what} would stop the pipeline", "mend what is said above")


def _prior(params: Params) -> str:
    from geobody.data.reader_apart import ReaderApart
    from geobody.data.surreal import read_info, read_surreal

    root, lines = Path(params.prior.root), [f"\nposes and shapes of the prior {params.prior.root}"]
    with ReaderApart(read_info) as read:
        for split in ("train", "val"):
            poses = read_surreal(root, split=split, stride=params.prior.stride, read=read)
            dropped = f", {poses.n_dropped} left out for their broken shapes" if poses.n_dropped else ""
            lines.append(f"  {split:<6} {len(poses)} poses of {len(poses.sequences)} sequences{dropped}")
    return "\n".join(lines)


def _body(params: Params) -> str:
    from geobody.body.model import BodyModel

    body = BodyModel.load(Path(params.body.model))
    return f"\nbody {params.body.model}\n  {body.num_vertices} vertices, {len(body.faces)} faces"


def manifest(arguments: argparse.Namespace) -> None:
    """Writes the list of a data set's files, or compares the files with it."""
    from geobody.data.manifest import NAME
    from geobody.data.manifest_writing import differences, parts_of, write_manifest
    from geobody.scratch import locked

    root = arguments.root or Path(_params().dataset.root)
    path = root / NAME
    if not arguments.verify:
        parts_of(root)  # the lock's file would make a folder that is not there
        with locked(root / ".manifest.lock", "is writing the manifest"):
            written = write_manifest(path, journal=root / ".manifest-journal.sqlite")
        print(f"{path}: {written.files} files, of which {written.hashed} were hashed now")
        return
    count = 0
    for difference in differences(path):
        print(difference, flush=True)
        count += 1
    if count:
        cure = "restore them, or write the manifest anew with geobody manifest"
        raise DataError(path, f"{count} files differ from it", cure)
    print(f"{path}: every file is as it says")


def convert_smpl(arguments: argparse.Namespace) -> None:
    """Makes a body file (.npz) from an official SMPL file (.pkl), of which nothing is run."""
    from geobody.body import official

    regressor = arguments.h36m_regressor
    made = official.convert_smpl(arguments.source, arguments.output, h36m_regressor=regressor)
    print(
        f"{arguments.output}: {len(made.arrays['v_template'])} vertices; name it in params.yaml: body.model"
    )
    if regressor is None:
        print(
            f"Human3.6M's 17 joints on it were {made.h36m_regressor}. On other shapes and poses they lie "
            f"{made.h36m_fit_mm} mm from that definition; how far from Human3.6M's own was not measured. "
            "--h36m-regressor takes one that you have."
        )


def predict(arguments: argparse.Namespace) -> None:
    """Finds joints, a body and its mesh in images: a folder of files for each."""
    import time

    from geobody.predict import Predictor
    from geobody.predict_files import FILES, JOINTS, Inputs, as_boxes, predict_files
    from geobody.progress import progress

    inputs = Inputs(
        images=tuple(arguments.images),
        boxes=as_boxes(arguments.box),
        masks=None if arguments.mask is None else tuple(arguments.mask),
        crop=arguments.crop,
        focal_px=arguments.focal,
    )
    inputs.check()  # before the networks are loaded
    predictor = Predictor.open(arguments.models, body=arguments.body)
    note = predictor.note_on(inputs.way)
    if note:
        print(f"note: {note}", file=sys.stderr)
    start, count = time.monotonic(), len(inputs.images)
    as_cut = misplaced = 0
    for written in progress(predict_files(predictor, inputs, arguments.out), total=count, desc="images"):
        as_cut += not written.crop.root_found
        misplaced += written.misplaced
    if as_cut and note:
        print(
            f"note: no root was found in {as_cut} of {count}: crops as first cut cost much", file=sys.stderr
        )
    if misplaced and inputs.way == "whole":
        print(
            f"note: {misplaced} of {count} do not show 2 m around the hip (misplaced in {JOINTS}), so their results "
            "are wrong; give --box or --mask",
            file=sys.stderr,
        )
    rate = count / (time.monotonic() - start)
    images = "1 image" if count == 1 else f"{count} images"
    print(f"{arguments.out}: {images}, {rate:.1f} a second; a folder each of {', '.join(FILES)}")


@dataclass(frozen=True)
class Command:
    """One subcommand."""

    run: Callable[[argparse.Namespace], None]
    arguments: Callable[[argparse.ArgumentParser], None]


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", nargs="?", type=Path, metavar="DATA_ROOT", help="folder with images/ in it; "
                        "without it, the data set, the prior's set and the body of params.yaml")  # fmt: skip
    parser.add_argument("--all", action="store_true", help="print every line of a long list")


def _manifest_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", nargs="?", type=Path, metavar="DATA_ROOT",
                        help="folder with images/ in it (default: params.yaml's dataset.root)")  # fmt: skip
    parser.add_argument("--verify", action="store_true",
                        help="hash every file again and name those that differ")  # fmt: skip


def _convert_smpl_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="FILE.pkl", help="SMPL's file, as it was downloaded")
    parser.add_argument("output", type=Path, metavar="OUT.npz", help="body file to write")
    parser.add_argument("--h36m-regressor", type=Path, metavar="FILE.npy",
                        help="(17, 6890) weights of Human3.6M's joints; without it they are made")  # fmt: skip


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="picture with one person in it")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument("--box", nargs=4, type=float, action="append", metavar=("X", "Y", "WIDTH", "HEIGHT"),
                        help="box around the person, in pixels; once for each image, in their order")  # fmt: skip
    parser.add_argument("--mask", nargs="+", type=Path, action="extend", metavar="MASK",
                        help="picture that is white where the person is; one for each image, in order")  # fmt: skip
    parser.add_argument("--crop", choices=("box", "mask", "whole"),
                        help="what to cut out (default: the box, else the mask, else the whole image, which is "
                        "then taken for a crop of 2 m)")  # fmt: skip
    parser.add_argument("--focal", type=float, metavar="PX",
                        help="focal length in pixels; docs/predict.md says what is assumed without it")  # fmt: skip
    parser.add_argument("--models", type=Path, default=Path("."), metavar="FOLDER",
                        help="repository in which dvc repro has run, or a folder of models (default: .)")  # fmt: skip
    parser.add_argument(
        "--body", type=Path, metavar="FILE.npz", help="another body file, e.g. of a finer mesh"
    )


COMMANDS = {
    "check": Command(check, _check_arguments),
    "manifest": Command(manifest, _manifest_arguments),
    "convert-smpl": Command(convert_smpl, _convert_smpl_arguments),
    "predict": Command(predict, _predict_arguments),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"error: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand; returns the exit code."""
    pin_threads()  # convert-smpl promises the same bytes; numpy is imported by the subcommands
    parser = _Parser(prog="geobody", description="What the pipeline needs beside `dvc repro`.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        summary = (command.run.__doc__ or "").splitlines()[0]
        one = commands.add_parser(name, help=summary, description=summary)
        command.arguments(one)
        one.set_defaults(run=command.run)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except GeobodyError as error:
        return _say(str(error), error.exit_code)
    except OSError as error:
        place = error.filename or "a file"
        why = error.strerror or type(error).__name__
        return _say(f"{place}: cannot be read or written ({why}); mend that and run this again",
                    DataError.exit_code)  # fmt: skip
    except KeyboardInterrupt:
        return _say("interrupted; run this again to go on", INTERRUPTED)
    return 0


def _params() -> Params:
    return load_params(PARAMS_FILE)


def _say(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    return code
