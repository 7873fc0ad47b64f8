"""Folders of images: a folder for each class, and in it files, by their endings."""

import contextlib
import pathlib
import warnings

__all__ = ["ENDINGS", "Visited", "class_files", "files_below", "is_image", "listing", "some", "subfolders"]

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
_NAMED = 10  # files are named one by one up to this number


def listing(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return what a folder holds, sorted, hidden files left out."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ValueError(
            f"`name` (={str(folder)!r}) must be a folder that can be read, and it can't ({error.strerror}). "
            "Change its permissions or give another folder."
        ) from error


def subfolders(folder: pathlib.Path) -> list[str]:
    """Return the names of a folder's folders, sorted."""
    return [path.name for path in listing(folder) if path.is_dir()]


def is_image(path: pathlib.Path) -> bool:
    """Whether a file's name ends as an image's does."""
    return path.suffix.lower() in ENDINGS


class Visited:
    """Folders and images that were seen, so that none is twice: by a link to itself, or to another class's images.

    Images that are both in two classes, or in the training and the test set, say nothing of a network.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder, self._places = folder, {}
        for parent in (folder, *folder.resolve().parents):
            self._places[self._identity(parent)] = parent

    def add(self, folder: pathlib.Path) -> None:
        """Note a folder; raise ValueError if it was there already."""
        self._note(folder, "folder")

    def add_image(self, path: pathlib.Path) -> None:
        """Note an image; raise ValueError if it was there already. A link that leads nowhere is found when read."""
        with contextlib.suppress(OSError):
            self._note(path, "image")

    def _note(self, path: pathlib.Path, kind: str) -> None:
        identity = self._identity(path)
        first = self._places.setdefault(identity, path)
        if first is not path and identity[1]:  # file systems without such numbers say 0
            raise ValueError(
                f"`name` (={str(self._folder)!r}) must be a folder in which no {kind} comes up twice, and "
                f"{str(path)!r} is {str(first)!r}, by a link. Remove the link, or copy the images."
            )

    @staticmethod
    def _identity(folder: pathlib.Path) -> tuple[int, int]:
        status = folder.stat()
        return status.st_dev, status.st_ino


def files_below(folder: pathlib.Path, visited: Visited) -> list[pathlib.Path]:
    """Return all files in a folder and its folders, sorted."""
    visited.add(folder)
    files = []
    for path in listing(folder):
        if path.is_dir():
            files.extend(files_below(path, visited))
            continue
        if is_image(path):
            visited.add_image(path)
        files.append(path)
    return files


def class_files(folder: pathlib.Path, visited: Visited | None = None) -> dict[str, list[str]]:
    """Return each class folder's image files, all sorted by name.

    Raises:
        ValueError: there are no class folders, one is empty or can't be read, or a folder comes up twice.
    """
    visited = visited or Visited(folder)
    names = subfolders(folder)
    if not names:
        found = "images without class folders" if any(map(is_image, listing(folder))) else "none"
        raise ValueError(
            f"`name` (={str(folder)!r}) must hold a folder of images for each class, and it holds {found}. "
            "Lay images out as <folder>/<class>/<image>.png or <folder>/train/<class>/<image>.png."
        )
    files, others = {}, []
    for name in names:
        found = files_below(folder / name, visited)
        files[name] = [str(path) for path in found if is_image(path)]
        others.extend(str(path) for path in found if not is_image(path))
    if empty := [name for name, paths in files.items() if not paths]:
        raise ValueError(
            f"`name` (={str(folder)!r}) must have images in every class folder, and there are none in {empty}. "
            f"Add images ({', '.join(ENDINGS)}) or remove the folders."
        )
    if others:
        warnings.warn(
            f"{len(others)} files in {str(folder)!r} are left out, since they end in none of {', '.join(ENDINGS)}: "
            f"{some(others)}.",
            stacklevel=4,
        )
    return files


def some(names: list[str]) -> str:
    """Return the first few of `names`, and how many more there are.

    Example:
        >>> some([str(number) for number in range(12)])
        '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more'
    """
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
