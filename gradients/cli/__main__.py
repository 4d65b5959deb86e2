"""`python -m gradients.cli`: the command `gradients` where no script is installed."""

from gradients.cli.main import main

if __name__ == "__main__":
    main()
