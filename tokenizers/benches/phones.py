"""What codes say of phones, by utterances whose phones are aligned with their sound (TextGrids of Montreal Forced Aligner)."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

INTERVAL = re.compile(r'xmin = ([\d.]+)\s+xmax = ([\d.]+)\s+text = "([^"]*)"')
SILENT = ("", "sil", "sp", "spn")


class Aligned(NamedTuple):
    """float32 samples at 16 kHz, and (begin, end, phone) of each phone in seconds."""

    samples: np.ndarray
    phones: list[tuple[float, float, str]]


def read_aligned(folder: Path) -> list[Aligned]:
    """The utterances of `folder` that have a TextGrid with a tier "phones" beside them; stress marks are dropped."""
    found = []
    for file in sorted(folder.rglob("*.TextGrid")):
        _, _, tier = file.read_text().partition('name = "phones"')
        phones = [
            (float(a), float(b), phone.strip("012").lower()) for a, b, phone in INTERVAL.findall(tier.partition("item [")[0])
        ]
        samples, _ = soundfile.read(file.with_suffix(".flac"), dtype="float32")
        found.append(Aligned(samples, phones))
    return found


def of_codes(codes: Sequence[np.ndarray], aligned: Sequence[Aligned], rate: float) -> dict[str, float]:
    """Of the phone at the middle of each code, silence left out: `phone purity`, the share of codes whose phone is the most
    frequent one of that code, `PNMI`, I(phone; code) ÷ H(phone) (HuBERT, Hsu et al. 2021, arXiv:2106.07447, section 4.2), and how
    many `pairs` were counted. With few pairs a code both are too high."""
    pairs: Counter[tuple[int, str]] = Counter()
    for row, one in zip(codes, aligned, strict=True):
        ends = np.array([end for _, end, _ in one.phones])
        for number, code in enumerate(row.tolist()):
            place = int(np.searchsorted(ends, (number + 0.5) / rate, side="right"))
            if place < len(one.phones) and one.phones[place][2] not in SILENT:
                pairs[code, one.phones[place][2]] += 1
    total = sum(pairs.values())
    of_code, of_phone, best = Counter(), Counter(), Counter()
    for (code, phone), count in pairs.items():
        of_code[code] += count
        of_phone[phone] += count
        best[code] = max(best[code], count)
    shared = sum(n / total * np.log(n * total / (of_code[code] * of_phone[phone])) for (code, phone), n in pairs.items())
    entropy = -sum(n / total * np.log(n / total) for n in of_phone.values())
    return {"phone purity": sum(best.values()) / total, "PNMI": float(shared / entropy), "pairs": float(total)}
