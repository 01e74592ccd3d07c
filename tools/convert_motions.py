r"""Convert clips of motion capture to data/motions/*.npz: 30 Hz, 24 joints, float16 axis-angle.

    python tools/convert_motions.py CLIP... --out data/motions \
        --source TEXT --licence TEXT --acknowledgement TEXT

A clip is a .bvh or a DeepMimic .txt. data/motions/README.md has the calls that made what is committed.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from geobody.data.motion_files import RATE_HZ
from geobody.data.motions import read_motion
from geobody.errors import GeobodyError


def convert(path: Path, out: Path, *, source: str, licence: str, acknowledgement: str) -> Path:
    """The .npz written for one clip; its horizontal path starts at the origin."""
    motion = read_motion(path)
    transl = motion.transl_m - motion.transl_m[0] * np.array([1.0, 0.0, 1.0])
    target = out / f"{path.stem}.npz"
    np.savez_compressed(
        target,
        poses=motion.poses.reshape(-1, 72).astype(np.float16),
        transl_m=transl.astype(np.float16),
        fps=np.float64(RATE_HZ),
        name=np.str_(motion.name),
        source=np.str_(source),
        licence=np.str_(licence),
        acknowledgement=np.str_(acknowledgement),
    )
    return target


def main() -> int:
    """Convert the clips named on the command line; exit code 3 for a broken one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    for text in ("source", "licence", "acknowledgement"):
        parser.add_argument(f"--{text}", required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for clip in args.clips:
        try:
            target = convert(
                clip, args.out, source=args.source, licence=args.licence, acknowledgement=args.acknowledgement
            )
        except GeobodyError as error:
            print(error, file=sys.stderr)
            return error.exit_code
        print(f"{target}: {target.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
