import torch

from ssl_video.eval.pretext import stilled


def test_the_still_control_shows_the_middle_frame_of_every_clip_and_tuple_and_leaves_the_rest():
    clips_BVTHWC = torch.arange(2 * 3 * 5 * 2 * 2 * 3, dtype=torch.uint8).reshape(2, 3, 5, 2, 2, 3)
    frames_BSHWC = torch.arange(2 * 3 * 2 * 2 * 3, dtype=torch.uint8).reshape(2, 3, 2, 2, 3)
    shown = stilled({"clips_VTHWC": clips_BVTHWC, "frames_SHWC": frames_BSHWC, "class": torch.tensor([1, 0])})
    for t in range(5):
        assert torch.equal(shown["clips_VTHWC"][:, :, t], clips_BVTHWC[:, :, 2])
    for s in range(3):
        assert torch.equal(shown["frames_SHWC"][:, s], frames_BSHWC[:, 1])
    assert shown["class"].tolist() == [1, 0]
