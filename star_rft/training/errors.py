from star_rft.types import UserError


class TrainingError(UserError):
    """A training that cannot be done as asked; the text says what to change."""
