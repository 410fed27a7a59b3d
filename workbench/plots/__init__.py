"""Tables and arrays in, plotly figures out: one file per subject, one theme for all of them."""
