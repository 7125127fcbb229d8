"""`python -m unet_course` is the `unet-course` command (torchrun needs a module)."""
from unet_course.cli import main

if __name__ == '__main__':
    main()
