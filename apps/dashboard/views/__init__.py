"""The pages, one file each; Streamlit runs a file as a script."""
