"""The words of `nano`'s captions in five languages; `captions` puts them together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from core_encoder.nano.scenes import COLOURS, SHAPES, Colour, Shape, Size

Language = Literal["en", "de", "fr", "es", "zh"]
Relation = Literal["left of", "right of", "above", "below"]

LANGUAGES: tuple[Language, ...] = get_args(Language)
RELATIONS: tuple[Relation, ...] = get_args(Relation)

_Forms = tuple[str, str, str, str]  # of an adjective: masculine, feminine, neuter; dative
DATIVE = 3  # the index of that form


@dataclass(frozen=True, kw_only=True)
class Tongue:
    """A language: its words, and the patterns that put them together; of several options the first is the usual one."""

    pattern: str  # how article, size, colour and noun follow each other
    articles: Sequence[str]  # by gender
    dative_articles: Sequence[str] | None = None  # by gender, where the language has a dative
    nouns: Mapping[Shape | None, tuple[str, int]]  # and the gender
    colours: Mapping[Colour, _Forms]
    sizes: Mapping[Size, Sequence[_Forms]]
    places: Sequence[Sequence[str]]  # in the order of PLACES
    placed: str = "{} {}"
    relations: Mapping[Relation, Sequence[str]]  # the second object is in the dative
    join: str = ", "
    last_join: str
    nothing: Sequence[str]


_M, _F, _N = 0, 1, 2


def _same(word: str) -> _Forms:
    return (word, word, word, word)


def _german(stem: str) -> _Forms:
    return (stem + "er", stem + "e", stem + "es", stem + "en")


def _romance(masculine: str, feminine: str) -> _Forms:
    return (masculine, feminine, masculine, masculine)


TONGUES: dict[Language, Tongue] = {
    "en": Tongue(
        pattern="{article} {size} {colour} {noun}",
        articles=("a",),
        nouns={None: ("shape", _M)} | {shape: (shape, _M) for shape in SHAPES},
        colours={colour: _same(colour) for colour in COLOURS},
        sizes={"small": (_same("small"), _same("little")), "large": (_same("large"), _same("big"))},
        places=(
            ("at the top left", "in the top left corner"),
            ("at the top", "at the top centre"),
            ("at the top right", "in the top right corner"),
            ("on the left", "at the left"),
            ("in the centre", "in the middle"),
            ("on the right", "at the right"),
            ("at the bottom left", "in the bottom left corner"),
            ("at the bottom", "at the bottom centre"),
            ("at the bottom right", "in the bottom right corner"),
        ),
        relations={
            "left of": ("{} left of {}", "{} to the left of {}"),
            "right of": ("{} right of {}", "{} to the right of {}"),
            "above": ("{} above {}",),
            "below": ("{} below {}", "{} under {}"),
        },
        last_join=" and ",
        nothing=("an empty background", "nothing"),
    ),
    "de": Tongue(
        pattern="{article} {size} {colour} {noun}",
        articles=("ein", "eine", "ein"),
        dative_articles=("einem", "einer", "einem"),
        nouns={
            None: ("Form", _F),
            "circle": ("Kreis", _M),
            "square": ("Quadrat", _N),
            "triangle": ("Dreieck", _N),
            "star": ("Stern", _M),
            "heart": ("Herz", _N),
            "cross": ("Kreuz", _N),
            "ring": ("Ring", _M),
            "moon": ("Mond", _M),
            "diamond": ("Raute", _F),
            "arrow": ("Pfeil", _M),
        },
        colours={
            "red": _german("rot"),
            "orange": _same("orange"),
            "yellow": _german("gelb"),
            "green": _german("grün"),
            "blue": _german("blau"),
            "purple": _same("lila"),
            "pink": _same("rosa"),
            "white": _german("weiß"),
            "black": _german("schwarz"),
        },
        sizes={"small": (_german("klein"),), "large": (_german("groß"),)},
        places=(
            ("oben links", "in der Ecke oben links"),
            ("oben", "oben in der Mitte"),
            ("oben rechts", "in der Ecke oben rechts"),
            ("links", "auf der linken Seite"),
            ("in der Mitte",),
            ("rechts", "auf der rechten Seite"),
            ("unten links", "in der Ecke unten links"),
            ("unten", "unten in der Mitte"),
            ("unten rechts", "in der Ecke unten rechts"),
        ),
        relations={
            "left of": ("{} links von {}",),
            "right of": ("{} rechts von {}",),
            "above": ("{} über {}",),
            "below": ("{} unter {}",),
        },
        last_join=" und ",
        nothing=("ein leerer Hintergrund", "nichts"),
    ),
    "fr": Tongue(
        pattern="{article} {size} {noun} {colour}",
        articles=("un", "une"),
        nouns={
            None: ("forme", _F),
            "circle": ("cercle", _M),
            "square": ("carré", _M),
            "triangle": ("triangle", _M),
            "star": ("étoile", _F),
            "heart": ("cœur", _M),
            "cross": ("croix", _F),
            "ring": ("anneau", _M),
            "moon": ("lune", _F),
            "diamond": ("losange", _M),
            "arrow": ("flèche", _F),
        },
        colours={
            "red": _same("rouge"),
            "orange": _same("orange"),
            "yellow": _same("jaune"),
            "green": _romance("vert", "verte"),
            "blue": _romance("bleu", "bleue"),
            "purple": _romance("violet", "violette"),
            "pink": _same("rose"),
            "white": _romance("blanc", "blanche"),
            "black": _romance("noir", "noire"),
        },
        sizes={"small": (_romance("petit", "petite"),), "large": (_romance("grand", "grande"),)},
        places=(
            ("en haut à gauche", "dans le coin en haut à gauche"),
            ("en haut", "en haut au milieu"),
            ("en haut à droite", "dans le coin en haut à droite"),
            ("à gauche", "sur la gauche"),
            ("au centre", "au milieu"),
            ("à droite", "sur la droite"),
            ("en bas à gauche", "dans le coin en bas à gauche"),
            ("en bas", "en bas au milieu"),
            ("en bas à droite", "dans le coin en bas à droite"),
        ),
        relations={
            "left of": ("{} à gauche d'{}",),
            "right of": ("{} à droite d'{}",),
            "above": ("{} au-dessus d'{}",),
            "below": ("{} au-dessous d'{}", "{} en dessous d'{}"),
        },
        last_join=" et ",
        nothing=("un fond vide", "rien"),
    ),
    "es": Tongue(
        pattern="{article} {noun} {colour} {size}",
        articles=("un", "una"),
        nouns={
            None: ("figura", _F),
            "circle": ("círculo", _M),
            "square": ("cuadrado", _M),
            "triangle": ("triángulo", _M),
            "star": ("estrella", _F),
            "heart": ("corazón", _M),
            "cross": ("cruz", _F),
            "ring": ("anillo", _M),
            "moon": ("luna", _F),
            "diamond": ("rombo", _M),
            "arrow": ("flecha", _F),
        },
        colours={
            "red": _romance("rojo", "roja"),
            "orange": _same("naranja"),
            "yellow": _romance("amarillo", "amarilla"),
            "green": _same("verde"),
            "blue": _same("azul"),
            "purple": _romance("morado", "morada"),
            "pink": _same("rosa"),
            "white": _romance("blanco", "blanca"),
            "black": _romance("negro", "negra"),
        },
        sizes={"small": (_romance("pequeño", "pequeña"),), "large": (_same("grande"),)},
        places=(
            ("arriba a la izquierda", "en la esquina superior izquierda"),
            ("arriba", "arriba en el centro"),
            ("arriba a la derecha", "en la esquina superior derecha"),
            ("a la izquierda", "en el lado izquierdo"),
            ("en el centro", "en el medio"),
            ("a la derecha", "en el lado derecho"),
            ("abajo a la izquierda", "en la esquina inferior izquierda"),
            ("abajo", "abajo en el centro"),
            ("abajo a la derecha", "en la esquina inferior derecha"),
        ),
        relations={
            "left of": ("{} a la izquierda de {}",),
            "right of": ("{} a la derecha de {}",),
            "above": ("{} encima de {}", "{} sobre {}"),
            "below": ("{} debajo de {}", "{} bajo {}"),
        },
        last_join=" y ",
        nothing=("un fondo vacío", "nada"),
    ),
    "zh": Tongue(
        pattern="{article}{size}{colour}{noun}",
        articles=("一个",),
        nouns={
            None: ("图形", _M),
            "circle": ("圆形", _M),
            "square": ("正方形", _M),
            "triangle": ("三角形", _M),
            "star": ("星形", _M),
            "heart": ("心形", _M),
            "cross": ("十字", _M),
            "ring": ("圆环", _M),
            "moon": ("月牙", _M),
            "diamond": ("菱形", _M),
            "arrow": ("箭头", _M),
        },
        colours={
            "red": _same("红色"),
            "orange": _same("橙色"),
            "yellow": _same("黄色"),
            "green": _same("绿色"),
            "blue": _same("蓝色"),
            "purple": _same("紫色"),
            "pink": _same("粉色"),
            "white": _same("白色"),
            "black": _same("黑色"),
        },
        sizes={"small": (_same("小的"), _same("小")), "large": (_same("大的"), _same("大"))},
        places=(
            ("左上角", "左上方"),
            ("上方", "顶部"),
            ("右上角", "右上方"),
            ("左边", "左侧"),
            ("中间", "中央"),
            ("右边", "右侧"),
            ("左下角", "左下方"),
            ("下方", "底部"),
            ("右下角", "右下方"),
        ),
        placed="{}在{}",
        relations={
            "left of": ("{}在{}的左边", "{}在{}的左侧"),
            "right of": ("{}在{}的右边", "{}在{}的右侧"),
            "above": ("{}在{}的上面",),
            "below": ("{}在{}的下面",),
        },
        join="，",
        last_join="和",
        nothing=("空白的背景", "什么都没有"),
    ),
}
