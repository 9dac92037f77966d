"""How good vectors are at their work: published retrieval and similarity sets, scored as their
authors score them. Nothing here reads or writes tables; vectors come from the pipeline's encoders.
"""
