"""What a reader of images has to say about an image that it took: of what only a part counts, or what was mended."""

from typing import Literal, NamedTuple

NoteKind = Literal["first_frame", "first_page", "end_missing", "shrunk", "preview", "centre_only"]
"""What a note is about; equal for all images of the kind, so that notes can be counted."""


class ImageNote(NamedTuple):
    """One thing to know about an image that was taken.

    Attributes:
        kind: to count notes by.
        text: the same as a phrase, which reads on after "3 pictures: ".
    """

    kind: NoteKind
    text: str


FIRST_FRAME = ImageNote("first_frame", "an animation, of which only the first frame counts")
FIRST_PAGE = ImageNote("first_page", "a document of several pages, of which only the first page counts")
END_MISSING = ImageNote("end_missing", "the end mark of the file is missing; all pixels are there")
SHRUNK = ImageNote("shrunk", "over `max_pixels`, and so shrunk while it was decoded")
PREVIEW = ImageNote("preview", "a camera's raw file, of which the embedded preview counts")
CENTRE_ONLY = ImageNote(
    "centre_only", "more than twice as long as wide, of which only the centre square counts; tiles cover all of it"
)
