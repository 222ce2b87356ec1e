"""The slopes of ALiBi, the linear penalty on distance of v1's text tower."""


def alibi_slopes(num_heads: int) -> list[float]:
    """The slope of each head's linear penalty.

    Source: Press, Smith and Lewis 2022, "Train Short, Test Long", section 3, and its code for head counts that are not
    a power of two: the slopes of the next lower power, then every second slope of the next higher one.
    """
    power = 1 << (num_heads.bit_length() - 1)  # largest power of two <= num_heads
    slopes = [2.0 ** (-8.0 * (head + 1) / power) for head in range(power)]
    return slopes if power == num_heads else slopes + alibi_slopes(2 * power)[0::2][: num_heads - power]
