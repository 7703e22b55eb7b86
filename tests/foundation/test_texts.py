import pytest

from braincl_med.foundation.texts import no_formula


@pytest.mark.parametrize(
    "cell",
    ['=HYPERLINK("x")', "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "+ward", "\n=1", "＝1", "'=1"],
)
def test_a_text_that_begins_as_a_formula_is_text_in_a_spreadsheet(cell: str) -> None:
    assert no_formula(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", [-1.5, 3, None, "-", "", "-1.2 points", "+3.4 %", "-12,000", "ward = 3", "naevus"])
def test_figures_and_other_texts_stay_as_they_are(cell: object) -> None:
    assert no_formula(cell) == cell
