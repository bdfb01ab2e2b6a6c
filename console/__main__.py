"""`python -m console` is `greenroom`."""

from console.main import main

if __name__ == "__main__":
    main()
