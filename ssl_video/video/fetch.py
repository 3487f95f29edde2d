"""The one door to FFmpeg: where the bytes of a video are, and how its container is opened.

Nothing else in the package opens media, for reading or for writing (a test says so). FFmpeg would take ``12:30.mp4``
for an address, ``a%02d.gif`` for a row of pictures, and a playlist for a video, whose other files it then opens. So it
is given whole paths, may use files only, and reads containers only, which hold all that belongs to them.
"""

import contextlib
import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import av
import av.error
from av.container import InputContainer, OutputContainer
from av.video.stream import VideoStream

from ssl_video.members import Member, member_of, read_member
from ssl_video.remote import is_remote
from ssl_video.video.info import VideoError, reason_of
from ssl_video.video.pictures import LARGEST

# PyAV before 19 refuses a file whose tags are not UTF-8 unless told; from 19 on it always reads it.
LENIENT: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
CONTAINERS = (
    "4xm,anm,apng,apv,asf,asf_o,av1,avi,avs,avs2,avs3,bethsoftvid,bfi,bink,bmv,c93,cavsvideo,"
    "cdg,cdxl,cine,dhav,dirac,dnxhd,dsicin,dv,dxa,ea,ea_cdata,evc,film_cpk,filmstrip,flic,flv,"
    "frm,gdv,gif,gxf,h261,h263,h264,hevc,hnm,hxvs,idcin,iff,ifv,ingenient,ipmovie,ipu,iss,"
    "iv8,ivf,ivr,jpegxl_anim,jv,kux,live_flv,lmlm4,luodat,lvf,lxf,m4v,matroska,mjpeg,mjpeg_2000,"
    "mlv,mm,mods,moflex,mov,mp4,mpeg,mpegts,mpegtsraw,mpegvideo,mpjpeg,mtv,mv,mvi,mxf,mxg,nc,"
    "nsv,nut,nuv,obu,ogg,paf,pdv,pmp,psxstr,pva,r3d,rl2,rm,roq,rpl,ser,sga,siff,smjpeg,smk,"
    "smush,swf,thp,tiertexseq,tmv,txd,ty,usm,vc1,vc1test,vividas,vivo,vmd,vvc,wc3movie,webm,"
    "wsvqa,wtv,xmv,yop,yuv4mpegpipe"
)
"""FFmpeg's names of all formats that hold video: without lists, scripts, text and devices."""
ROWS = (
    "bmp_pipe,dpx_pipe,exr_pipe,gif_pipe,j2k_pipe,jpeg_pipe,jpegls_pipe,jpegxl_pipe,jpegxs_pipe,pam_pipe,pbm_pipe,"
    "pcx_pipe,pgm_pipe,pgmyuv_pipe,png_pipe,ppm_pipe,qoi_pipe,sgi_pipe,sunrast_pipe,tiff_pipe,webp_pipe"
)
"""And of pictures one behind the other in a file."""
SOUND = "aac,ac3,aiff,amr,ape,au,caf,flac,mp3,tta,w64,wav,wv"
"""And of sound alone, so that the reason is that there is no video."""
SAFE = {
    "format_whitelist": f"{CONTAINERS},{ROWS},{SOUND}",
    "enable_drefs": "0",  # a movie may name other files, too
    "use_absolute_path": "0",
    "max_pixels": str(LARGEST),  # while it looks what a file holds
}
LISTS = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:#extm3u|ffconcat|\[playlist\]|\[reference\]|v=0\s|rtsptext|<asx|<smil|"
    rb"(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:\w+:)?(?:mpd|asx|smil|playlist|smoothstreamingmedia|compositionplaylist)\b)",
    re.IGNORECASE | re.DOTALL,
)
"""How lists of other files begin: HLS and M3U, concat, PLS, ASX, SDP, DASH, SMIL, XSPF, IMF."""
PATTERN = re.compile(r"[%*?{\[]")
"""Of a name that FFmpeg may take for those of many pictures."""
STILL = frozenset(["bmp", "gif", "jpegls", "jpegxl", "jpeg2000", "mjpeg", "png", "ppm", "tiff", "webp"])
"""Codecs of pictures: beside a stream of another codec, one of these is a cover."""


def fetch(video: str) -> str | bytes:
    """What FFmpeg reads a video from: the whole path of its file, or the bytes of a member of a shard.

    Raises:
        VideoError: if these cannot be read; FileNotFoundError if there is no such shard.
    """
    member = member_of(video)
    if member is None:
        return os.path.abspath(video)  # noqa: PTH100  (as text, in which bytes that are not UTF-8 survive)
    try:
        return _remembered(video, member) if is_remote(video) else read_member(member)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise VideoError(reason_of(error)) from error


def _remembered(video: str, member: Member) -> bytes:
    """The bytes from elsewhere; those of the last video are not asked for again, as when frames are read anew."""
    if _last[0] != video:
        _last[:] = video, read_member(member)
    return _last[1]


_last: list[Any] = ["", b""]


@contextlib.contextmanager
def open_media(video: str, options: dict[str, str] | None = None) -> Iterator[InputContainer]:
    """The container of a video; ``options`` are FFmpeg's.

    Raises:
        VideoError: if it is no file of its own that could hold video.
        Exception: what PyAV raises.
    """
    source = fetch(video)
    if isinstance(source, str):
        if not stat.S_ISREG(Path(source).stat().st_mode):  # a pipe would be waited for
            raise VideoError("it is no file")
        safe = SAFE | {"protocol_whitelist": "file"}
    else:
        safe = SAFE | {"protocol_whitelist": ""}
    with contextlib.ExitStack() as held:
        file: Any = io.BytesIO(source) if isinstance(source, bytes) else source
        if isinstance(source, str) and PATTERN.search(source):
            file = held.enter_context(io.FileIO(source))
            file.name = "video"
        try:
            container = held.enter_context(av.open(file, options=(options or {}) | safe, **LENIENT))
        except (av.error.ArgumentError, av.error.InvalidDataError) as error:
            if LISTS.match(source[:4096] if isinstance(source, bytes) else _head(source)):
                raise VideoError("it is a list of other files, not a video") from None
            if isinstance(error, av.error.ArgumentError):  # the answer to a format that is not among ours
                raise VideoError("it is of no format that holds video") from None
            raise
        yield container


def _head(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(4096)


def video_stream(container: InputContainer) -> VideoStream:
    """The stream that is the video, of the same file always the same one.

    As FFmpeg's command chooses: the one of most pixels, before which a stream goes that is marked as default, and the
    first of equals; a cover is none. Raises VideoError if there is none.
    """
    videos = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not videos:
        raise VideoError("it has no video stream" + (" but a cover" if container.streams.video else ""))
    streams = [s for s in videos if cast(Any, s.codec_context)]
    if not streams:
        raise VideoError("there is no decoder of its video stream")

    def rank(stream: VideoStream) -> tuple[bool, bool, int]:
        context = stream.codec_context
        is_default = bool(stream.disposition & stream.disposition.default)
        return context.name not in STILL, stream.frames != 1, context.width * context.height + 5_000_000 * is_default

    return max(streams, key=rank)


def create_media(path: Path | str) -> OutputContainer:
    """The container of a file that is to be written, to be closed by the caller. Raises what PyAV raises."""
    return av.open(os.path.abspath(path), "w")  # noqa: PTH100


def open_decoder(video: str, stream: int, device: str = "cpu") -> Any:
    """torchcodec's decoder of a stream: exact, frames (T, H, W, C) on a device, one thread.

    Raises what torchcodec raises.

    It cannot be told what it may open: ``open_media`` goes before.
    """
    from torchcodec.decoders import VideoDecoder  # pyright: ignore

    how: dict[str, Any] = {"dimension_order": "NHWC", "num_ffmpeg_threads": 1, "seek_mode": "exact", "device": device}
    return VideoDecoder(fetch(video), stream_index=stream, **how)


def torchcodec_works() -> bool:
    """True if torchcodec and FFmpeg's libraries can be loaded."""
    try:
        from torchcodec.decoders import VideoDecoder  # pyright: ignore

        VideoDecoder(b"no video")  # FFmpeg's libraries are loaded with the first decoder only
    except Exception as error:
        return not isinstance(error, (ImportError, OSError)) and "libtorchcodec" not in str(error)
    return True
