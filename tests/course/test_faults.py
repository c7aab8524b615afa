"""The table of faults says what the marked tests are called, and is the one that they give today."""

from helpers.course import faults


def test_the_stored_table_is_todays():
    assert faults.FAULTS.read_text(encoding="utf-8") == faults.faults_page(), "Run python -m helpers.course.faults"


def test_sixty_faults_or_more_are_survived_by_name():
    assert sum(map(len, faults.survived().values())) >= 60


def test_a_marked_test_is_a_line_and_another_is_none(tmp_path):
    (tmp_path / "test_one.py").write_text(
        '@pytest.mark.fault("set-up")\n@pytest.mark.parametrize("x", [1])\ndef test_a_full_disk_is_told(x): ...\n\n'
        "@pytest.mark.nightly\ndef test_other(): ...\n"
    )
    assert faults.survived(tmp_path) == {"set-up": [("A full disk is told", "test_one.py")]}
