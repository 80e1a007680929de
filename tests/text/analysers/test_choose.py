"""The analyser that a corpus gets when nobody names one."""

from __future__ import annotations

import pytest

from lightretriever.text.analysers.choose import choose_analyser


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("The mitochondrion is the powerhouse of the cell, and it is found in most of them.", "words (english)"),
        ("Der Hund und die Katze sind in einem Haus, das nicht weit von der Stadt liegt.", "words (german)"),
        ("Le chat est sur la table, et il ne veut pas en descendre avec les autres.", "words (french)"),
        ("El perro está en la casa de los abuelos, pero no quiere salir con nosotros.", "words (spanish)"),
        ("Il gatto è sul tavolo e non vuole scendere dalla sedia con gli altri della casa.", "words (italian)"),
        ("O cão não está em casa, mas na rua com os meus amigos e as suas irmãs.", "words (portuguese)"),
        ("De hond is niet in het huis, maar hij ligt met een bot op de straat van zijn baas.", "words (dutch)"),
        ("Это не тот дом, который мы видели, но он стоит на той же улице.", "words (russian)"),
        ("यह घर का दरवाज़ा है और वह उस की चाबी है", "words (hindi)"),
        ("Kissa ei ole täällä, mutta se on talossa ja koira on sen kanssa.", "words (finnish)"),
        ("珠穆朗玛峰是世界上最高的山峰，位于中国和尼泊尔边境。", "cjk"),
        ("富士山は日本で最も高い山です。Fuji とも呼ばれます。", "cjk"),
        ("กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย", "cjk"),
        ("usb-c cable 2m braided black; hdmi adapter 4k", "words"),
        ("", "words"),
    ],
)
def test_by_script_and_language(text: str, chosen: str) -> None:
    assert str(choose_analyser([text])) == chosen


def test_most_of_the_first_texts_decide() -> None:
    english, chinese = "this is the house of the people", "世界上最高的山峰"
    assert str(choose_analyser([*[english] * 9, chinese])) == "words (english)"
    assert str(choose_analyser(iter([english] * 256 + [chinese] * 10_000))) == "words (english)"
    assert str(choose_analyser([])) == "words"


@pytest.mark.parametrize(
    "texts",
    [
        ["Case for iPhone 12", "Sony WH-1000XM5 headphones", "Samsung Galaxy case for S21"],
        ["import os\nimport pandas as pd\n\nclass Foo:\n    def save(self, path):\n        os.makedirs(path)\n"],
        ["var x = 1; var foo = function(bar) { for (var i = 0; i < y; i++) { console.log(i); } return y; };"],
        ["Hà Nội là thủ đô của nước Việt Nam và là một thành phố lớn"],
        ["Chicken tikka masala", "Pasta al pesto", "Chili con carne", "Pollo a la brasa"],
    ],
)
def test_no_language_is_better_than_a_wrong_one(texts: list[str]) -> None:
    assert str(choose_analyser(texts)) == "words"


@pytest.mark.parametrize(
    "texts",
    [
        ["how do i reset my password", "can i return an item", "where is my order", "do you ship over seas"],
        ["Stocks rise over trade hopes", "Police hunt men over theft", "Storm leaves homes without power and water"],
        ["me too", "we can do that over here", "can you come here", "i will do so", "you can do so"],
        ["History of Rome", "Life in Paris", "The art of War", "Birds of Europe", "Trains in Spain"],
    ],
)
def test_short_english_is_not_another_language(texts: list[str]) -> None:
    assert str(choose_analyser(texts)) in ("words (english)", "words")


def test_persian_is_not_arabic() -> None:
    assert str(choose_analyser(["این کتاب در خانه است و من آن را می‌خوانم"])) == "words (persian)"
