"""The colours of all pictures: Okabe and Ito's colour-blind-safe palette."""

BLUE, ORANGE, GREEN, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#CC79A7"
GREY, INK, GRID = "#999999", "#333333", "#E6E6E6"
