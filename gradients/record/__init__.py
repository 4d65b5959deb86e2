"""The public record: what a validator leaves behind of every task and every epoch, so that a stranger can check it."""
