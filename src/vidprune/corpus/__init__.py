"""Answers about many videos: what there is (`items`), where it is decoded (`reading`), what is
asked of a model (`answers`), what is kept (`shards`), and a job over it all that goes on after
whatever stopped it (`job`), alone or on Ray (`on_ray`).
"""
