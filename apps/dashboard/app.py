"""The dashboard's entry: pages, sidebar, and the page chosen."""

from pathlib import Path

import streamlit as st

from apps.dashboard import frame

# Pictures are files: Streamlit would fetch a Material symbol for the browser's tab from an outside server.
HERE = Path(__file__).resolve().parent

st.set_page_config(page_title="BrainCL-Med", page_icon=str(HERE / "icon.svg"), layout="wide")
page = st.navigation(
    [
        st.Page("views/ready.py", title="Can I use it?", icon=":material/fact_check:", default=True),
        st.Page("views/diagnosis.py", title="A diagnosis", icon=":material/search:"),
        st.Page("views/overview.py", title="Overview", icon=":material/dashboard:"),
        st.Page("views/accuracy.py", title="Accuracy as diseases are added", icon=":material/show_chart:"),
        st.Page("views/fairness.py", title="Fairness", icon=":material/balance:"),
        st.Page("views/unknown.py", title="Unknown scans", icon=":material/help_center:"),
        st.Page("views/sure.py", title="How sure is it?", icon=":material/speed:"),
        st.Page("views/poor.py", title="Poor images", icon=":material/blur_on:"),
        st.Page("views/memory.py", title="Memory and network", icon=":material/database:"),
        st.Page("views/add.py", title="Add a diagnosis", icon=":material/add_circle:"),
        st.Page("views/audit.py", title="Audit", icon=":material/verified_user:"),
    ]
)
st.logo(str(HERE / "logo.svg"), size="large")
frame.sidebar()
page.run()
