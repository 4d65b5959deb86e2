"""What the demo's tasks use stays out of pretraining."""

from hypothesis import given
from hypothesis import strategies as st

from scripts.pretraining.holdout import HoldOut, choose_hold_out, hold_out_test
from scripts.pretraining.nearness import NearTexts, words_of
from scripts.pretraining.wordnet import Synset


def synset(word: str, definition: str, *, example: str = "", pos: str = "noun") -> Synset:
    return Synset(
        key=f"{pos}:{word}",
        pos=pos,
        words=(word,),
        main_words=frozenset({word}),
        definition=definition,
        examples=(example,) if example else (),
    )


GOGGLES = synset("goggles", "tight spectacles worn to protect the eyes")
BLINKERS = synset("blinkers", "spectacles worn tight to protect the eyes")
MULE = synset("mule", "offspring of a donkey and a horse")
SIGN = synset("signboard", "a structure that shows advertisements", example="the highway was lined with signboards")


def chosen_words(hold_out: HoldOut) -> list[str]:
    return [entry.word for entry in hold_out.entries()]


def test_of_two_near_definitions_one_is_held_out() -> None:
    words = chosen_words(choose_hold_out([GOGGLES, BLINKERS, MULE], seed=0))

    assert sorted(words) in (["goggles", "mule"], ["blinkers", "mule"])


def test_the_same_seed_holds_out_the_same_and_another_seed_another_order() -> None:
    words = ("ant", "bee", "cow", "dog", "elk")
    synsets = [
        synset(word, " ".join(letter * size for size in range(4, 8)))
        for word, letter in zip(words, "abcde", strict=True)
    ]

    first = chosen_words(choose_hold_out(synsets, seed=1))

    assert sorted(first) == sorted(words)
    assert first == chosen_words(choose_hold_out(synsets, seed=1))
    assert any(first != chosen_words(choose_hold_out(synsets, seed=seed)) for seed in range(2, 6))


def test_a_definition_that_names_its_word_is_not_asked_for() -> None:
    assert chosen_words(choose_hold_out([synset("mule", "a mule is a kind of animal")], seed=0)) == []


def test_a_word_is_asked_for_by_its_most_frequent_meaning_only() -> None:
    rare = Synset("noun:2", "noun", ("bank",), frozenset(), "sloping land beside a body of water", ())

    assert chosen_words(choose_hold_out([rare], seed=0)) == []


def test_passages_have_an_example_sentence() -> None:
    hold_out = choose_hold_out([MULE, SIGN], seed=0)

    assert [entry.word for entry in hold_out.passages] == ["signboard"]
    assert [entry.word for entry in hold_out.definitions] == ["mule"]


def test_a_synset_near_a_held_out_one_stays_out_of_pretraining() -> None:
    synsets = [GOGGLES, BLINKERS, MULE, SIGN]
    hold_out = choose_hold_out([GOGGLES, SIGN], seed=0)

    must_stay_out = hold_out_test(hold_out, synsets)

    assert [must_stay_out(one) for one in synsets] == [True, True, False, True]


def test_a_synset_with_a_held_out_example_stays_out_of_pretraining() -> None:
    other = synset("board", "a flat piece of wood for notices", example="The highway was lined with signboards")

    assert hold_out_test(choose_hold_out([SIGN], seed=0), [SIGN, other])(other)


def test_what_stands_in_the_corpus_is_not_shipped() -> None:
    hold_out = choose_hold_out([GOGGLES, MULE], seed=0)

    assert chosen_words(hold_out.fit_to_ship("It is the Offspring of a donkey and a horse, he said.")) == ["goggles"]


def test_words_that_do_not_suit_every_reader_are_not_shipped() -> None:
    hold_out = choose_hold_out([synset("dolt", "a stupid person who is easily tricked"), MULE], seed=0)

    assert chosen_words(hold_out.fit_to_ship("")) == ["mule"]


TEXTS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", "g", "h"]), min_size=1, max_size=8).map(" ".join)


@given(filed=st.lists(TEXTS, max_size=6), text=TEXTS, overlap=st.sampled_from([0.3, 0.5, 0.6, 0.8, 1.0]))
def test_the_search_for_near_texts_finds_what_comparing_with_each_finds(
    filed: list[str], text: str, overlap: float
) -> None:
    near = NearTexts(rarity=filed, overlap=overlap)
    for one in filed:
        near.add(one)

    def is_near(one: str) -> bool:
        ours, theirs = words_of(one), words_of(text)
        return len(ours & theirs) >= overlap * len(ours | theirs)

    assert near.holds_near(text) == any(is_near(one) for one in filed)
