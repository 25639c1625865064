"""From one level of region labels to another: layers, areas, the groups of the source paper, a user's own mapping.

Acronyms are those of the Allen mouse brain atlas. Its whole tree is not part of the package: a level such as Beryl or
Cosmos comes with the data, as a column, or from the user, as a mapping. What is known here is which areas have layers,
and which areas make up visual cortex, hippocampal formation, thalamus and midbrain, so that neighbours that share
letters are not mixed up (postsubiculum belongs to the hippocampal formation, SSp to no group).
"""

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..errors import InputError

__all__ = ["REGION_GROUPS", "area_of", "clean_acronym", "group_of", "map_regions", "region_level"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# the areas of each group, as they are found in recordings; parts and layers of them are looked up by area_of()
REGION_GROUPS = {
    "visual_cortex": _words("VISp VISl VISal VISrl VISam VISpm VISli VISpor VISpl VISa VISmma VISmmp"),
    "hippocampus": _words("CA1 CA2 CA3 DG SUB ProS PRE POST PAR ENTl ENTm HATA APr FC IG"),
    "thalamus": _words(
        "VAL VM VPL VPLpc VPM VPMpc PoT SPFm SPFp SPA PP MGd MGv MGm LGd LP PO POL SGN Eth AV AM AMd AMv AD IAM IAD LD "
        "IMD MD SMT PR PVT PT RE Xi RH CM PCN CL PF PIL RT IGL IntG LGv SubG MH LH"
    ),
    "midbrain": _words(
        "SCs SCop SCsg SCzo SCm SCdg SCdw SCiw SCig IC ICc ICd ICe NB SAG PBG MEV SNr VTA PN RR MRN PAG PRC INC ND Su3 "
        "APN MPT NOT NPC OP PPT RPF CUN RN III EW IV Pa4 VTN AT LT DT SNc PPN IF IPN RL CLI DR"
    ),
}
# labels above the level of areas: enough to know the group, too little to know the area
_PARENTS = {
    "visual_cortex": ("VIS",),
    "hippocampus": ("HPF", "HIP", "RHP", "CA", "ENT"),
    "thalamus": _words("TH DORsm DORpm VENT VP SPF GENd GENv MG LAT ATN MED MTN ILM EPI"),
    "midbrain": ("MB", "MBsen", "MBmot", "MBsta", "SC", "PRT"),
}
_GROUP_OF = {name: group for table in (REGION_GROUPS, _PARENTS) for group, names in table.items() for name in names}
_LAYERED = frozenset(
    _words(
        "FRP MO MOp MOs SS SSp SSp-n SSp-bfd SSp-ll SSp-m SSp-ul SSp-tr SSp-un SSs GU VISC AUD AUDd AUDp AUDpo AUDv "
        "VIS ACA ACAd ACAv PL ILA ORB ORBl ORBm ORBvl AI AId AIp AIv RSP RSPagl RSPd RSPv VISm PTLp TEa PERI ECT ENT "
        "ENTl ENTm PAR POST PRE"
    )
    + REGION_GROUPS["visual_cortex"]
)
_LAYER = re.compile(r"(?:1|2/3|2_3|2|2a|2b|3|4|4/5|5|5/6|6a|6b|6)$")
_CA_LAYER = re.compile(r"^(CA[123])(?:slm|slu|so|sp|sr)$")
_NOT_A_REGION = {"", "no area", "out of brain", "see electrode locations"}.union(
    _words("nan none null n/a na <na> unknown unlabelled unlabeled outside root void void_fluid grey brain")
)


def clean_acronym(label: object) -> str:
    """A region label as text; "" for None, NaN and labels that name no region (root, void, grey, unknown, ...)."""
    if label is None or (isinstance(label, float) and np.isnan(label)):
        return ""
    text = (label.decode() if isinstance(label, bytes) else str(label)).strip()
    return "" if text.lower() in _NOT_A_REGION else text


def area_of(acronym: str) -> str:
    """The area of an Allen acronym, without layer or part: VISp2/3 -> VISp, CA1sp -> CA1, DG-mo -> DG, LGd-sh -> LGd.

    Only areas that have layers lose digits: CA1 stays CA1. An acronym that is not known stays as it is.
    """
    if acronym in _GROUP_OF or acronym in _LAYERED:
        return acronym
    base = _LAYER.sub("", acronym)
    if base in _LAYERED:
        return base
    if match := _CA_LAYER.match(acronym):
        return match[1]
    whole = acronym.split("-")[0]
    return whole if whole in _GROUP_OF else acronym


def group_of(acronym: str) -> str:
    """The group of an Allen acronym, "visual_cortex" | "hippocampus" | "thalamus" | "midbrain", else ""."""
    return _GROUP_OF.get(acronym) or _GROUP_OF.get(area_of(acronym), "")


def region_level(regions: Iterable[str], level: str, *, unknown: str = "unlabelled") -> np.ndarray:
    """Region labels at a level that is known here.

    Parameters
    ----------
    regions : iterable of str
        Allen acronyms; "" is unlabelled and stays so.
    level : str
        "area": without layers and parts. "group": one of the four groups. The name of a group ("visual_cortex",
        "hippocampus", "thalamus", "midbrain"): the areas of that group; all other units become unlabelled.
    unknown : "unlabelled" | "keep" | "raise", default: "unlabelled"
        What to do with acronyms that this level does not know; they are reported with their numbers of units. Parents
        of areas (VIS, HPF, TH, MB) are unknown at the level of areas of a group. "area" knows all.

    Returns
    -------
    array of str, shape (num_units,)

    Raises
    ------
    InputError
        When the level is not known, or ``unknown="raise"`` and an acronym is not.
    """
    regions = list(regions)
    if level == "area":
        return np.array([area_of(region) for region in regions], dtype=str)
    if level == "group":
        mapping = {region: group_of(region) for region in set(regions) if group_of(region)}
        return map_regions(regions, mapping, unknown=unknown, name='level "group"')
    if level not in REGION_GROUPS:
        raise InputError(
            f'There is no level {level!r}: it is "area", "group", {", ".join(map(repr, REGION_GROUPS))}, or the name '
            "of a column of units."
        )
    mapping = {}
    for region in set(regions):
        area, group = area_of(region), group_of(region)
        if group != level and group:
            mapping[region] = ""
        elif area in REGION_GROUPS[level]:
            mapping[region] = area
    return map_regions(regions, mapping, unknown=unknown, name=f"level {level!r}")


def map_regions(
    regions: Iterable[str],
    mapping: Mapping[str, str | Sequence[str]],
    *,
    unknown: str = "unlabelled",
    name: str = "the mapping",
) -> np.ndarray:
    """Region labels by a mapping, with a report of what it does not know.

    Parameters
    ----------
    regions : iterable of str
        Labels; "" is unlabelled and stays so.
    mapping : mapping
        Either new label by old label ({"VISp": "cortex"}; None or "" to unlabel), or a list of old labels by new label
        ({"cortex": ["VISp", "MOs"]}).
    unknown : "unlabelled" | "keep" | "raise", default: "unlabelled"
        What becomes of labels that are not in the mapping. They are counted in a warning, or in the error.
    name : str
        What the messages call the mapping.

    Returns
    -------
    array of str, shape (num_units,)

    Raises
    ------
    InputError
        When a label has two places in the mapping, or ``unknown="raise"`` and a label has none.
    """
    if unknown not in ("unlabelled", "keep", "raise"):
        raise InputError(f'unknown must be "unlabelled", "keep" or "raise", got {unknown!r}.')
    table = _flat(mapping)
    regions = list(regions)
    missing = Counter(region for region in regions if region and region not in table)
    if missing:
        listed = ", ".join(f"{region} ({count})" for region, count in missing.most_common(10))
        text = (
            f"{sum(missing.values())} of {len(regions)} units are in {len(missing)} regions that {name} does not know: "
            f"{listed}{', ...' if len(missing) > 10 else ''}."
        )
        if unknown == "raise":
            raise InputError(f'{text} Add them, or pass unknown="keep" or unknown="unlabelled".')
        kept = "keep their labels" if unknown == "keep" else "are now unlabelled"
        warnings.warn(f"{text} They {kept}.", stacklevel=2)
    return np.array(
        [table.get(region, region if unknown == "keep" else "") if region else "" for region in regions], dtype=str
    )


def _flat(mapping):
    """New label by old label, whichever way the mapping is written."""
    table = {}
    for key, value in mapping.items():
        pairs = [(key, value)] if value is None or isinstance(value, str) else [(old, key) for old in value]
        for old, new in pairs:
            new = clean_acronym(new)
            if table.setdefault(str(old), new) != new:
                raise InputError(f"The mapping puts {old!r} into both {table[str(old)]!r} and {new!r}.")
    return table
