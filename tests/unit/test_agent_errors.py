from pathlib import Path

import pytest
from parley import wiring
from parley.settings import SettingsError, load

SLIPS = {
    "in_our_code": "from parley import tool\n\n@tool(effect='no such effect')\ndef f(): ...\n",
    "in_pythons_code": "import json\n\njson.loads('{')\n",
    "in_their_code": "x = 1\n\nx.nothing\n",
}


@pytest.mark.parametrize("module", SLIPS)
def test_a_slip_is_shown_in_the_persons_own_file_in_a_clone_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    theirs = tmp_path / "parley" / "layers" / "agent" / f"slip_{module}.py"
    theirs.parent.mkdir(parents=True)
    theirs.write_text(SLIPS[module])
    monkeypatch.syspath_prepend(str(theirs.parent))

    with pytest.raises(SettingsError) as told:
        wiring.agents(load({"PARLEY_AGENT": f"slip_{module}:agent"}))

    assert f"{theirs}, line 3: " in str(told.value)
