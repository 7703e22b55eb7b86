"""A new diagnosis, by the same checks as `braincl tasks add` and with the same effect."""

import streamlit as st

from apps.dashboard import data, frame
from braincl_med.foundation.errors import BrainclError
from braincl_med.settings.config import ExperimentConfig

frame.begin(
    "Add a diagnosis",
    "A new group of diagnoses for a finished experiment. The next run learns it, and it alone: what is known already "
    "is kept by memories, and no former scan is read again.",
)
record = frame.chosen()
summary = record.summary
known = ", ".join(row.name for row in summary.classes)
st.markdown(f"**Known or to be learned already:** {frame.plain(known)}")

with st.form("add"):
    name = st.text_input("Name of the group", max_chars=63, help="Lower-case letters, digits and hyphens.")
    classes = st.text_area(
        "Diagnoses, one a line",
        max_chars=4000,
        help="DATASET/LABEL or DATASET/CLASS NAME, as bloodmnist/2; of a hospital's own scans own/NAME.",
    )
    folder = st.text_input(
        "Folder of the scans on this machine", help="Empty: the folder that BRAINCL_DATA names, or medmnist's own."
    )
    elsewhere = st.checkbox("The scans lie at the hospitals alone: do not look for them here")
    asked = st.form_submit_button("Check, and add", type="primary")

if asked:
    from braincl_med.federation.extend import add_task  # which needs torch, and the other pages do not

    wanted = [line.strip() for line in classes.splitlines() if line.strip()]
    try:
        where = ExperimentConfig(data_root=folder.strip()).data_folder
        registry = add_task(data.state_root(), summary.name, name.strip(), wanted, where, look=not elsewhere)
    except BrainclError as error:
        st.error(f"Nothing was added: {frame.plain(str(error))}.")
    else:
        added = registry.tasks[-1]
        learned = ", ".join(spec.name for spec in added.classes)
        st.success(
            f"'{frame.plain(added.name)}' was added: {frame.plain(learned)}. The command that ran "
            f"'{frame.plain(summary.name)}', given once more, learns it."
        )
