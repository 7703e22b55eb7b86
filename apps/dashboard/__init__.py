"""Read-only Streamlit pages over the run store, for clinicians and data officers."""
