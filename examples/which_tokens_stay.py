"""Which tokens stay: prune a model, ask for the trace, and count survivors in every frame.

python examples/which_tokens_stay.py clip.mp4
"""

import sys

import vidprune


def main(path: str) -> None:
    model = vidprune.load("demo")
    pruned = vidprune.prune(model, vidprune.STA(r=32))
    output = pruned(vidprune.read_clip(path, model), return_trace=True)
    print("predicted:", model.config.id2label[output.logits.argmax().item()])
    for stage, origin in zip(pruned.stages, output.trace.origin, strict=True):
        # A place in the unpruned grid is frame * 64 + row * 8 + column: 64 tokens in a frame.
        survivors = (origin[0] // 64).bincount(minlength=8).tolist()
        print(stage)
        print("    left in each frame:", survivors)


if __name__ == "__main__":
    main(sys.argv[1])
