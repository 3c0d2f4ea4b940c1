"""Writing of every size and place: memes, captions, adverts, articles, watermarks."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from curation.calibration.edits.base import Draw, Others, Portrait, around, edit, font

QUOTES = (
    ("The best time to plant a tree", "was twenty years ago.", "The second best time is now."),
    ("It always seems impossible", "until it is done."),
    ("Well begun", "is half done.", "The rest is patience,", "and a second cup of tea."),
)
SHOUTS = (("WHEN YOU OPEN THE FRIDGE", "AND FORGET WHY"), ("ONE DOES NOT SIMPLY", "SKIP BREAKFAST"),
          ("I SAID FIVE MINUTES", "AN HOUR AGO"))  # fmt: skip
ARTICLE = """The council met on Tuesday evening to hear what the town thinks of the new bridge. Some came to praise the
plan, others to ask what it will cost, and a few to see their neighbours. The mayor listened to all of them and promised
an answer before the summer. Nobody believes that it will be built this year, but many said that they would walk over
it when it is.""".split()


def _outlined(image: Image.Image, text: str, centre: tuple[float, float], size: float) -> None:
    width = max(1, round(size / 12))
    ImageDraw.Draw(image).text(centre, text, font=font(size), fill=(255, 255, 255), anchor="mm", stroke_width=width,
                               stroke_fill=(0, 0, 0))  # fmt: skip


def _lines(words: list[str], letters: int) -> list[str]:
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > letters:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


@edit("words")
def meme(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image.copy()
    above, below = SHOUTS[int(draw.integers(len(SHOUTS)))]
    size = min(0.09 * image.height, 1.5 * image.width / max(len(above), len(below)))
    _outlined(image, above, (image.width / 2, size), size)
    _outlined(image, below, (image.width / 2, image.height - size), size)
    return image


@edit("words")
def one_huge_word(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image.copy()
    word = ("WOW", "NOPE", "SOLD", "FAIL")[int(draw.integers(4))]
    _outlined(image, word, (image.width / 2, image.height * draw.choice((0.2, 0.8))), image.width / 3.2)
    return image


@edit("words")
def over_the_face(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image.copy()
    x1, y1, x2, y2 = portrait.face
    for number, line in enumerate(("BREAKING NEWS", "EXCLUSIVE")):
        _outlined(image, line, ((x1 + x2) / 2, y1 + (0.45 + 0.3 * number) * (y2 - y1)), (x2 - x1) / 5)
    return image


@edit("words")
def subtitle(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image.copy()
    for number, line in enumerate(("I never said that I would come,", "I said that I would think about it.")):
        at = (image.width / 2, image.height * (0.88 + 0.06 * number))
        _outlined(image, line, at, min(0.05 * image.height, image.width / 20))
    return image


@edit("words")
def short_subtitle(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Three short words, low in the picture."""
    image = portrait.image.copy()
    _outlined(image, "Are you sure?", (image.width / 2, image.height * 0.93), 0.045 * image.height)
    return image


@edit("words")
def caption_below(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image
    size = image.width / 18
    tall = round(3.6 * size)
    canvas = Image.new("RGB", (image.width, image.height + tall), (255, 255, 255))
    canvas.paste(image)
    for number, line in enumerate(("A visitor at the opening of the", "exhibition on Sunday afternoon")):
        ImageDraw.Draw(canvas).text((size / 2, image.height + size * (0.5 + 1.3 * number)), line, font=font(size),
                                    fill=(30, 30, 30))  # fmt: skip
    return canvas


@edit("words")
def quote_beside(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image.crop(around(portrait.face, portrait.image.size, 0.6, 0.5, 0.9))
    canvas = Image.new("RGB", (round(image.width * 2.3), image.height), tuple(int(c) for c in draw.integers(10, 90, 3)))
    canvas.paste(image)
    lines = QUOTES[int(draw.integers(len(QUOTES)))]
    size = min(2.4 * image.width / max(map(len, lines)), image.height / 9)
    for number, line in enumerate(lines):
        at = (image.width * 1.06, image.height * 0.25 + number * size * 1.4)
        ImageDraw.Draw(canvas).text(at, line, font=font(size), fill=(240, 240, 235))
    return canvas


@edit("words")
def page(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A page of a newspaper with the portrait in it."""
    image = portrait.image.crop(around(portrait.face, portrait.image.size, 0.7, 0.5, 0.7)).resize((240, 280))
    canvas = Image.new("RGB", (560, 560), (250, 248, 240))
    canvas.paste(image, (300, 90))
    write = ImageDraw.Draw(canvas)
    write.text((20, 20), "New bridge divides town", font=font(44), fill=(20, 20, 20))
    for number, line in enumerate(_lines(ARTICLE, 34)[:14]):
        write.text((20, 95 + 20 * number), line, font=font(15), fill=(40, 40, 40))
    for number, line in enumerate(_lines(ARTICLE, 68)):
        write.text((20, 400 + 20 * number), line, font=font(15), fill=(40, 40, 40))
    return canvas


@edit("words")
def tiled_watermark(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image.copy()
    layer = Image.new("RGBA", (2 * max(image.size),) * 2, (0, 0, 0, 0))
    size = image.width / 16
    for y in range(0, layer.height, round(3.2 * size)):
        for x in range((y * 7) % round(5 * size), layer.width, round(7 * size)):
            ImageDraw.Draw(layer).text((x, y), "stockphoto", font=font(size), fill=(255, 255, 255, 110))
    layer = layer.rotate(30).crop((layer.width // 4, layer.height // 4, layer.width // 4 + image.width,
                                   layer.height // 4 + image.height))  # fmt: skip
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


@edit("words")
def one_watermark(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Large, faint, across the middle."""
    image = portrait.image.convert("RGBA")
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    centre = (image.width / 2, image.height / 2)
    ImageDraw.Draw(layer).text(centre, "stockphoto", font=font(image.width / 6), fill=(255, 255, 255, 90), anchor="mm")
    return Image.alpha_composite(image, layer).convert("RGB")


@edit("words")
def advert(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image.copy()
    write = ImageDraw.Draw(image)
    radius = 0.15 * min(image.size)
    centre = np.array([image.width * draw.choice((0.17, 0.83)), image.height * 0.2])
    write.ellipse((*(centre - radius), *(centre + radius)), fill=(220, 30, 30))
    write.text(tuple(centre), "-50%", font=font(radius * 0.75), fill=(255, 255, 255), anchor="mm")
    write.rectangle((0, image.height * 0.84, image.width, image.height), fill=(250, 210, 0))
    write.text((image.width / 2, image.height * 0.92), "ONLY THIS WEEK: FREE DELIVERY", font=font(image.width / 20),
               fill=(20, 20, 20), anchor="mm")  # fmt: skip
    return image


@edit("words")
def phone_screen(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A screenshot of a phone that shows the photo."""
    image = portrait.image
    wide = 360
    image = image.resize((wide, round(image.height * wide / image.width)))
    canvas = Image.new("RGB", (wide, image.height + 210), (255, 255, 255))
    canvas.paste(image, (0, 90))
    write = ImageDraw.Draw(canvas)
    write.text((12, 8), "9:41", font=font(16), fill=(0, 0, 0))
    write.text((300, 8), "5G  87%", font=font(14), fill=(0, 0, 0))
    write.ellipse((12, 40, 48, 76), fill=(200, 120, 160))
    write.text((60, 42), "some_user_name", font=font(17), fill=(0, 0, 0))
    write.text((60, 62), "Rotterdam", font=font(13), fill=(90, 90, 90))
    write.text((12, image.height + 100), "1,284 likes", font=font(17), fill=(0, 0, 0))
    write.text((12, image.height + 126), "What a day! Thanks to everybody who came", font=font(15), fill=(30, 30, 30))
    write.text((12, image.height + 150), "View all 46 comments", font=font(15), fill=(120, 120, 120))
    return canvas


@edit("words")
def name_tag(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A name on a plate, as on television: little text."""
    image = portrait.image.copy()
    write = ImageDraw.Draw(image)
    top, tall = image.height * 0.86, image.height * 0.07
    write.rectangle((image.width * 0.05, top, image.width * 0.36, top + tall), fill=(20, 40, 110))
    write.text(
        (image.width * 0.07, top + tall / 2), "A. Person", font=font(tall * 0.6), fill=(255, 255, 255), anchor="lm"
    )
    return image
