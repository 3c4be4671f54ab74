"""A local page on which one drops a video, moves r, and sees which tokens go."""
