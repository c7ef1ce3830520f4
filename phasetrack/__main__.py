"""`python -m phasetrack`: the command, also for launchers that start modules, such as torchrun."""

from phasetrack_cli.main import main  # type: ignore[import-not-found]  # the folder cli/

if __name__ == "__main__":
    main()
