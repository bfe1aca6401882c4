// Boot loaders want a 32-bit ELF: the flat image in one segment, bss included.
        .section .image, "awx"
        .globl wrapped_image
wrapped_image:
        .incbin HEARTH_FLAT_IMAGE
