"""The page: a scan goes in, what the network says of it comes out, and neither is kept."""

import argparse
import sys
from pathlib import Path

import pandas as pd
import streamlit as st

from apps.cli.options import keys_for
from apps.dashboard.frame import plain
from apps.trial.launch import MOST_MEGABYTES
from braincl_med.foundation.errors import BrainclError
from braincl_med.inference.answer import Verdict
from braincl_med.inference.opening import opened
from braincl_med.inference.trial import Trial, Tried
from braincl_med.scans.refusals import ScanRefusedError

KINDS = ["png", "jpg", "jpeg", "tif", "tiff", "webp", "dcm", "dicom", "ima"]
SIDE = 260  # pixels on the screen of a picture's side; a text of its own here would be shown on the page


@st.cache_resource(show_spinner="The network and the memories are opened …")
def trial(network: str, state: str, vault: str, vault_key: str, network_key: str, network_dir: str) -> Trial:
    """The network and memories that the command line names, opened once."""
    keys = keys_for(vault_key, network_key, Path(network_dir) if network_dir else None)
    return Trial(opened(network, Path(state)), Path(vault) if vault else None, keys)


def asked() -> dict[str, str]:
    """What the command line says."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("network", "state", "vault", "vault-key", "network-key", "network-dir"):
        parser.add_argument(f"--{name}", default="")
    return vars(parser.parse_known_args(sys.argv[1:])[0])


def show(tried: Tried, with_network: Trial) -> None:
    """Answer, likeness, nearest memory, and the overlay, which is no evidence."""
    names = [spec.name for spec in with_network.model.classes]
    answer, verdict = tried.answer, tried.answer.verdict
    said = f"**{plain(names[answer.number])}**" if answer.top else "**No answer**"
    (st.success if verdict is Verdict.ANSWERED else st.warning)(f"{said}: {plain(verdict.value)}")
    if answer.top:
        rows = [(names[number], f"{100 * share:.1f} %") for number, share in answer.top]
        st.table(pd.DataFrame(rows, columns=["Diagnosis", "Calibrated probability"]).set_index("Diagnosis"))
    if with_network.model.caution:
        st.caption(plain(with_network.model.caution))
    columns = st.columns(3)
    columns[0].image(tried.scan, width=SIDE, caption=f"As the network sees it, {len(tried.scan)} pixels a side")
    if tried.nearest is not None:
        columns[1].image(
            tried.nearest.recall,
            width=SIDE,
            caption=f"The nearest memory of this hospital: {names[tried.nearest.number]}",
        )
        st.markdown(
            f"**Likeness:** the network finds this scan more familiar than {100 * tried.nearest.familiar:.0f} % of "
            f"the {len(with_network.memories.scans) if with_network.memories else 0:,} scans that this hospital "
            "remembers."
        )
    if tried.overlay is not None:
        columns[2].image(
            tried.overlay, width=SIDE, caption="Not evidence: where the answer hangs on the picture (Grad-CAM)"
        )


st.set_page_config(page_title="BrainCL-Med: try a scan", layout="wide")
st.title("Try a scan")
st.warning("**Research software, not a medical device.** What stands here decides nothing about a patient.")
st.markdown(
    "The scan stays in this machine's memory, is written nowhere and is forgotten when this page is closed. "
    f"Files of at most {MOST_MEGABYTES} MB: PNG, JPEG, TIFF, WebP or DICOM, with one picture."
)
try:
    opened_trial = trial(**asked())
except BrainclError as error:
    st.error(plain(str(error)))
    st.stop()
upload = st.file_uploader("A scan", type=KINDS, max_upload_size=MOST_MEGABYTES)
if upload is not None:
    try:
        show(opened_trial.of(upload.getvalue()), opened_trial)
    except ScanRefusedError as refused:
        st.error(f"This file was refused: {plain(str(refused))}")
