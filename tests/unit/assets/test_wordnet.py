"""Reading WordNet's database files."""

from pathlib import Path

from scripts.pretraining.wordnet import read_synsets, split_gloss

LICENCE_LINE = "  1 This software and database is being provided to you, the LICENSEE\n"
DATA_NOUN = (
    '00000010 03 n 02 abacus 0 counting_frame 0 001 @ 00000020 n 0000 | a frame with beads; "she counts on an abacus"  \n'
    "00000020 03 n 01 bank 0 000 | sloping land beside a body of water  \n"
    "00000030 03 n 01 bank 1 000 | a place that keeps money  \n"
)
INDEX_NOUN = "abacus n 1 1 @ 1 0 00000010\nbank n 2 0 2 2 00000030 00000020\ncounting_frame n 1 1 @ 1 0 00000010\n"
DATA_ADJ = "00000040 00 s 01 galore(ip) 0 000 | existing in abundance  \n"
INDEX_ADJ = "galore a 1 0 1 0 00000040\n"


def miniature_database(folder: Path) -> Path:
    parts = {"noun": (DATA_NOUN, INDEX_NOUN), "adj": (DATA_ADJ, INDEX_ADJ), "verb": ("", ""), "adv": ("", "")}
    for part, (entries, index) in parts.items():
        (folder / f"data.{part}").write_text(LICENCE_LINE + entries, encoding="utf-8")
        (folder / f"index.{part}").write_text(LICENCE_LINE + index, encoding="utf-8")
    return folder


def test_a_synset_carries_its_words_definition_and_examples(tmp_path: Path) -> None:
    abacus = read_synsets(miniature_database(tmp_path))[0]

    assert abacus.key == "noun:00000010"
    assert abacus.words == ("abacus", "counting frame")
    assert abacus.definition == "a frame with beads"
    assert abacus.examples == ("she counts on an abacus",)


def test_a_word_belongs_to_its_most_frequent_meaning_only(tmp_path: Path) -> None:
    synsets = {synset.key: synset for synset in read_synsets(miniature_database(tmp_path))}

    assert synsets["noun:00000030"].main_words == {"bank"}
    assert synsets["noun:00000020"].main_words == frozenset()


def test_an_adjectives_marker_of_position_is_no_part_of_the_word(tmp_path: Path) -> None:
    galore = read_synsets(miniature_database(tmp_path))[-1]

    assert (galore.pos, galore.words) == ("adjective", ("galore",))


def test_a_gloss_without_examples_is_all_definition() -> None:
    assert split_gloss("an entity that has physical existence  ") == ("an entity that has physical existence", ())
