"""train(progress=True) shows the run and tells its verdict; names that are taken get a number."""

import phasetrack


def test_progress_is_shown_and_told(tmp_path, capsys):
    settings = phasetrack.RunSettings(d=6, width=6, batch=16, steps=5)
    phasetrack.train(settings, out=str(tmp_path))
    assert capsys.readouterr().out == ""
    phasetrack.train(settings, out=str(tmp_path), progress=True)
    shown = capsys.readouterr().out
    assert "step     0" in shown and "Run 'xor-d6-s0-2': " in shown and "5 steps" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["xor-d6-s0", "xor-d6-s0-2"]
