"""The dashboard's entry: pages, sidebar, and the page chosen."""

from pathlib import Path

import streamlit as st

from apps.dashboard import frame
from braincl_med.foundation.errors import BrainclError

# Pictures are files: Streamlit would fetch a Material symbol for the browser's tab from an outside server.
HERE = Path(__file__).resolve().parent
PRINT = """<style>
@media screen { [data-testid="stElementContainer"]:has(.printed) { display: none; } }
@media print {
  @page { size: A4; margin: 12mm; }
  [data-testid="stSidebar"], [data-testid="stHeader"], [data-testid="stElementToolbar"], [data-testid="stButton"],
  [data-testid="stDownloadButton"], [data-testid="stFormSubmitButton"], [data-testid="stDataFrame"] {
    display: none !important; }
  /* The page scrolls within the window, of which a printer would see the first sheet alone. */
  html, body, #root, .stApp, [data-testid="stAppViewContainer"], [data-testid="stMain"] {
    position: static !important; height: auto !important; overflow: visible !important; }
  /* Of the size of a printed table's text, at which most pages of a few diagnoses fit on one sheet. */
  [data-testid="stMainBlockContainer"] { padding: 0 !important; max-width: none !important; zoom: 0.62; }
  [data-testid="stVegaLiteChart"], [data-testid="stMetric"], tr { break-inside: avoid; }
  [data-testid="stElementContainer"]:has(h2, h3, h5) { break-after: avoid; }
  html, body { background: none !important; }
  .printed table { width: 100%; border-collapse: collapse; font-size: 0.875rem; }
  .printed th, .printed td { text-align: left; padding: 0.25rem 0.4rem; border-bottom: 1px solid #8884; }
  .stApp { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
</style>"""
# A dark page is printed dark on white; charts are drawn on canvases, which no colour of a style sheet reaches. Its
# background, which is not quite black, becomes white by the last of the filters.
PRINT_DARK = "<style>@media print { .stApp { filter: invert(1) hue-rotate(180deg) brightness(1.15); } }</style>"

st.set_page_config(page_title="BrainCL-Med", page_icon=str(HERE / "icon.svg"), layout="wide")
page = st.navigation(
    {
        "For the clinic": [
            st.Page("views/ready.py", title="Can I use it?", icon=":material/fact_check:", default=True),
            st.Page("views/diagnosis.py", title="A diagnosis", icon=":material/search:"),
            st.Page("views/sure.py", title="How sure is it?", icon=":material/speed:"),
            st.Page("views/unknown.py", title="Unknown scans", icon=":material/help_center:"),
            st.Page("views/poor.py", title="Poor images", icon=":material/blur_on:"),
            st.Page("views/accuracy.py", title="Accuracy as diseases are added", icon=":material/show_chart:"),
            st.Page("views/fairness.py", title="Fairness", icon=":material/balance:"),
        ],
        "For those who run it": [
            st.Page("views/hospitals.py", title="Hospitals", icon=":material/local_hospital:"),
            st.Page("views/privacy.py", title="Privacy", icon=":material/verified_user:"),
            st.Page("views/runs.py", title="Runs", icon=":material/dashboard:"),
            st.Page("views/memory.py", title="Memory and network", icon=":material/database:"),
            st.Page("views/add.py", title="Add a diagnosis", icon=":material/add_circle:"),
        ],
    }
)
st.logo(str(HERE / "logo.svg"), size="large")
st.html(PRINT)
if st.context.theme.type == "dark":
    st.html(PRINT_DARK)
frame.sidebar()
try:
    page.run()
except BrainclError as error:  # of a store that was locked, or damaged, between two reads of the page
    frame.unreadable(error)
