from orchestrator.settings.reference import PAGE, page


def test_the_page_in_the_docs_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m orchestrator.settings.reference"


def test_every_table_stands_in_it_with_its_fields() -> None:
    text = page()
    for table in ("[kernel]", "[limits]", "[access]", "[[roots]]", "[[model_folders]]", "[[devices]]"):
        assert f"## `{table}`" in text
    assert "| `workers` | `2` | int, from 1, to 64 (processes) | advanced |" in text
    assert "| `command` | – | list[str] | advanced |" in text
