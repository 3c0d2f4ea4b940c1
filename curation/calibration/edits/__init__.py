"""Pictures to calibrate on, made of the sample's photos: what the web does to a portrait, by a seeded script.

The photos are other people's and are never committed; what is, is this script and a table of what each picture is
(tests/labels/sample-edits.csv), labelled by looking at it. An edit is known by its motif and its name, and every number
drawn for it depends on those two alone, so a new edit changes no other.
"""
