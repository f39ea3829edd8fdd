"""`python -m xmnist` is the same as the console script."""

from xmnist.cli.main import main  # launchers pickle the job by its module, which must not be __main__

if __name__ == "__main__":
    main()
