"""How good a model's maps are, measured on inputs: `regard evaluate`.

blanking       parts of an input taken away
ranking        what a map orders, and the yardsticks beside it
faithfulness   what the label's score does as the parts that a map ranks first go, or come
localisation   whether a map is high where the truth is known to lie
probe          one input: its maps, and all that is measured of them
tally          means over inputs, intervals, differences from random
report, plot   what people read
"""
