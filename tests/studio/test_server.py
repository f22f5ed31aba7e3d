"""The HTTP interface, asked as curl would: videos, streams, files, limits, who may ask."""

import base64
import io
import json
import shlex

import numpy as np
import pytest
import tiny
from PIL import Image
from starlette.testclient import TestClient

from fv_jax.cli.commands import Generate
from fv_jax.cli.parsing import parse
from fv_jax.config.model import Options
from fv_jax.generation.plan import plan_interpolation
from fv_jax.generation.stream import Stream
from fv_jax.media.writers import write_gif
from fv_jax.studio import server
from fv_jax.studio.jobs import Jobs
from fv_jax.studio.server import Studio

HERE = "http://127.0.0.1:8000"
OPTIONS = {"insert": 3, "inherit": 0.3, "window": 5}
PROMPT = tiny.PROMPTS[0]
TOKEN = "a token of more than 16"


@pytest.fixture(scope="module")
def client(generator):
    with TestClient(Studio(generator).app(), base_url=HERE) as client:
        yield client


def events(client, path, **more):
    """Pairs of a name and its data."""
    text = client.get(path, **more).text
    blocks = [block.split("\n") for block in text.split("\n\n") if block and block[0] != ":"]
    return [(block[1][7:], json.loads(block[2][6:])) for block in blocks]


def make(client, **asked):
    answer = client.post("/v1/videos", json={"prompt": PROMPT, "options": OPTIONS, **asked})
    assert answer.status_code == 202, answer.text
    return answer.json()


def picture(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def clip_of(client, made, video=0):
    file = client.get(f"/v1/videos/{made['id']}/file?format=npz&video={video}")
    return np.load(io.BytesIO(file.content))


@pytest.fixture(scope="module")
def made(client):
    """A request of three seeds, all that was told of it, and the clips of `generate`."""
    made = make(client, seeds=[7, 3, 5])
    told = events(client, made["events"])
    clips = tiny.generator().generate([PROMPT] * 3, seed=[7, 3, 5], options=Options(**OPTIONS))
    return made, told, clips


def test_a_request_gives_the_videos_of_generate(client, made):
    made, told, clips = made
    assert [name for name, _ in told if name in ("waiting", "plan", "stats", "done", "failed")] == [
        "waiting", "plan", "stats", "done",
    ]  # fmt: skip
    for video, clip in enumerate(clips):
        file = clip_of(client, made, video)
        for name in ("ids", "frames", "inherited", "key_frame", "seed"):
            np.testing.assert_array_equal(file[name], getattr(clip, name))


def test_what_is_told_builds_the_videos_up_key_frames_first(made):
    _, told, clips = made
    ids, pixels, order = np.full((3, 9, 16), -1), {}, []
    for name, data in told:
        if name == "ids":
            assert (ids[data["video"], data["frame"], data["places"]] == -1).all()
            ids[data["video"], data["frame"], data["places"]] = data["ids"]
            order.append(data["frame"])
        elif name == "pixels":
            strip = picture(data["png"])
            for frame, part in zip(data["frames"], np.split(strip, len(data["frames"]), axis=1)):
                pixels[data["video"], frame] = part
        elif name == "mask":
            clip = clips[data["video"]]
            inherited = [place == "3" for place in data["places"]]
            np.testing.assert_array_equal(inherited, clip.inherited[data["frame"]].reshape(-1))
    last_key = max(i for i, frame in enumerate(order) if frame % 4 == 0)
    assert all(frame % 4 == 0 for frame in order[: last_key + 1])
    for video, clip in enumerate(clips):
        np.testing.assert_array_equal(ids[video], clip.ids.reshape(9, -1))
        for frame in range(9):
            # Key frames are decoded in a batch of their own.
            off = np.abs(pixels[video, frame].astype(int) - clip.frames[frame])
            assert off.max() <= 1


def test_levels_are_told_one_after_the_other(client, generator):
    options = {**OPTIONS, "insert": [1, 1]}
    told = events(client, make(client, options=options)["events"])
    (clip,) = generator.generate([PROMPT], options=Options(**{**options, "insert": (1, 1)}))
    ids, order = np.full((9, 16), -1), []
    for name, data in told:
        if name == "ids":
            ids[data["frame"], data["places"]] = data["ids"]
            order.append(data["frame"])
        elif name == "mask":
            inherited = [place == "3" for place in data["places"]]
            np.testing.assert_array_equal(inherited, clip.inherited[data["frame"]].reshape(-1))
    np.testing.assert_array_equal(ids, clip.ids.reshape(9, -1))
    assert [data["level"] for name, data in told if name == "batch"] == [-1, 0, 1]
    level = [0 if frame % 4 == 0 else 1 if frame % 2 == 0 else 2 for frame in order]
    assert level == sorted(level)


def test_masks_say_of_each_place_what_it_is(made):
    _, told, clips = made
    masks = [data for name, data in told if name == "mask"]
    assert len(masks) == 3 * 6
    for mask in masks:
        clip, first = clips[mask["video"]], mask["frame"] // 4 * 4
        different = (clip.ids[first] != clip.ids[first + 4]).reshape(-1)
        assert [place == "0" for place in mask["places"]] == different.tolist()


def test_steps_and_decided_ids_add_up(made):
    _, told, _ = made
    steps = [data for name, data in told if name == "steps"]
    assert sum(data["decided"] for data in steps) == 3 * 9 * 16
    stats = dict(told)["stats"]
    last = {data["level"]: data["steps"] for data in steps}
    assert sum(last.values()) == stats["steps"]


def test_who_comes_late_hears_all_and_who_returns_the_rest(client, made):
    made, told, _ = made
    assert events(client, made["events"]) == told
    rest = events(client, made["events"], headers={"Last-Event-ID": str(len(told) - 3)})
    assert rest == told[-2:]


def test_frames_are_there_as_json(client, made):
    made, _, clips = made
    frames = client.get(f"/v1/videos/{made['id']}/frames?video=1").json()
    assert frames["state"] == "done"
    assert frames["seed"] == 3
    np.testing.assert_array_equal(frames["ids"], clips[1].ids.reshape(9, -1))
    assert picture(frames["frames"][4]).shape == (64, 64, 3)


def test_files_are_what_they_say(client, made):
    made, _, _ = made
    begins = {"mp4": b"\0\0\0", "gif": b"GIF89a", "npz": b"PK", "png": b"\x89PNG"}
    for kind, magic in begins.items():
        file = client.get(f"/v1/videos/{made['id']}/file?format={kind}&scale=2")
        assert file.content.startswith(magic)
        assert f"flashvideo-7.{kind}" in file.headers["content-disposition"]


def test_the_command_makes_the_same_video(made):
    _, told, _ = made
    words = shlex.split(dict(told)["plan"]["command"])
    assert words[:2] == ["fv", "generate"]
    words = [word for word in words[2:] if word not in ("--model", "tiny")]
    command = parse(Generate, words, prog="fv")
    assert (command.prompt, command.seed) == ((PROMPT,), 7)
    assert command.options == Options(**OPTIONS)


def test_first_frames_are_fitted_and_begin_the_video(client, tmp_path):
    write_gif(tiny.video(9), 8.0, tmp_path / "a.gif")
    sent = client.post("/v1/clips?count=2", content=(tmp_path / "a.gif").read_bytes())
    assert sent.status_code == 201
    sent = sent.json()
    assert len(sent["ids"]) == len(sent["frames"]) == 2
    made = make(client, first_frames=sent["id"])
    told = events(client, made["events"])
    assert told[-1] == ("done", {})
    np.testing.assert_array_equal(clip_of(client, made)["ids"][[0, 4]].reshape(2, -1), sent["ids"])
    assert "--first-frames CLIP" in dict(told)["plan"]["command"]


def test_a_clip_is_interpolated(client, generator, tmp_path):
    write_gif(tiny.video(3), 2.0, tmp_path / "a.gif")
    data = (tmp_path / "a.gif").read_bytes()
    sent = client.post("/v1/clips?use=interpolate", content=data).json()
    made = make(client, interpolate=sent["id"], prompt="")
    told = events(client, made["events"])
    assert told[-1] == ("done", {})
    frames = np.stack([picture(text) for text in sent["frames"]])
    plan = plan_interpolation(generator.model, frames, options=Options(**OPTIONS), fps=2.0)
    (want,) = generator.run(plan)
    np.testing.assert_array_equal(clip_of(client, made)["ids"], want.ids)
    assert sum(name == "pixels" for name, _ in told) == 2  # the clip's frames, then the others


@pytest.mark.filterwarnings("ignore:the model was trained with")
def test_a_stream_goes_on_rests_is_saved_and_forked(client, generator, tmp_path):
    asked = {"prompt": PROMPT, "seeds": [40], "options": OPTIONS}
    begun = client.post("/v1/streams", json=asked).json()
    stream = f"/v1/streams/{begun['id']}"
    with client.stream("GET", begun["events"]) as told:
        frames = [json.loads(line[6:]) for line in first_lines(told, 9)]
        assert client.post(f"{stream}/pause").json()["paused"]
        saved = client.get(f"{stream}/state").content
        fork = client.post(f"{stream}/fork", json={"seed": 4})
        assert not client.post(f"{stream}/resume").json()["paused"]
    assert [frame["index"] for frame in frames] == [*range(9)]
    (clip,) = generator.generate([PROMPT], seed=40, options=Options(**OPTIONS))
    for frame, want in zip(frames, clip.frames):
        assert np.abs(picture(frame["png"]).astype(int) - want).max() <= 1
    assert len({frame["state"] for frame in frames}) == 1
    (tmp_path / "saved").write_bytes(saved)
    again = Stream.load(generator, tmp_path / "saved")
    assert next(again).index >= 9
    assert fork.status_code == 202
    for id_ in (begun["id"], fork.json()["id"]):
        client.delete(f"/v1/streams/{id_}")
        told = events(client, f"/v1/streams/{id_}/events")
        assert told[-1] == ("canceled", {})


def first_lines(told, count):
    found = (line for line in told.iter_lines() if line.startswith('data: {"index"'))
    return [next(found) for _ in range(count)]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/videos", {"prompt": ""}, "the prompt is empty"),
        ("/v1/videos", {"prompt": "a", "options": {"levels": -1}}, "options.levels must be >= 0"),
        ("/v1/videos", {"prompt": "a", "first_frames": "x"}, "send it again"),
        ("/v1/videos", {"prompt": "a", "options": {"insert": 2}}, "insert must be one of"),
        ("/v1/streams", {"prompt": "a", "options": {"key_frames": 1}}, "more than 2 key frames"),
        ("/v1/streams", {"prompt": "a", "interpolate": "x"}, "a stream takes no"),
    ],
)
def test_what_is_wrong_with_a_request_is_one_line(client, path, body, said):
    answer = client.post(path, json=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/videos/none", 404), ("/v1/videos/none/events", 404), ("/v1/streams/none/state", 404),
        ("/nothing", 404), ("/static/../server.py", 404), ("/static/%2e%2e/server.py", 404),
    ],
)  # fmt: skip
def test_what_is_not_there_is_404(client, path, code):
    assert client.get(path).status_code == code


def test_wrong_questions_about_a_video_are_400(client, made):
    path = f"/v1/videos/{made[0]['id']}"
    for query in (
        "file?format=exe",
        "file?scale=9",
        "file?video=3",
        "file?video=-1",
        "frames?video=x",
    ):
        assert client.get(f"{path}/{query}").status_code == 400, query
    assert client.get(f"/v1/streams/{made[0]['id']}/state").status_code == 404


def test_sizes_are_limited(client, monkeypatch):
    assert client.post("/v1/videos", content=b" " * (64 * 1024 + 1)).status_code == 413
    monkeypatch.setattr(server, "MOST_BYTES", 100)
    assert client.post("/v1/clips", content=(b"x" * 60 for _ in range(2))).status_code == 413
    assert client.post("/v1/clips", content=b"x" * 100).status_code == 400
    assert client.post("/v1/clips?count=99", content=b"x").status_code == 400
    assert client.post("/v1/clips?use=run", content=b"x").status_code == 400


def test_a_full_queue_is_said_and_nothing_is_lost(generator):
    jobs = Jobs(waiting=0)
    with TestClient(Studio(generator, jobs=jobs).app(), base_url=HERE) as client:
        answer = client.post("/v1/videos", json={"prompt": PROMPT})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def test_a_request_may_be_canceled(client):
    made = make(client, options={**OPTIONS, "temperature": 0.123})
    client.delete(f"/v1/videos/{made['id']}")
    assert events(client, made["events"])[-1] == ("canceled", {})


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 200), ({"host": "localhost:8000"}, 200), ({"host": "[::1]:8000"}, 200),
        ({"origin": HERE}, 200), ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example:8000"}, 403), ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403), ({"origin": "http://127.0.0.1:9999"}, 403),
    ],
)  # fmt: skip
def test_pages_of_other_sites_and_other_names_are_refused(client, headers, code):
    for path in ("/", "/v1/model", "/static/studio.js"):
        assert client.get(path, headers=headers).status_code == code
    assert client.post("/v1/videos", content=b"", headers=headers).status_code == max(code, 400)


def test_answers_keep_browsers_careful(client):
    headers = client.get("/").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_with_a_token_only_who_has_it_may_ask(generator):
    with TestClient(Studio(generator, TOKEN).app(), base_url="http://studio.example") as client:
        for path in ("/", "/v1/model", "/static/studio.js", "/?token=wrong"):
            assert client.get(path).status_code == 401
        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert client.get("/v1/status", headers=bearer).status_code == 200
        assert client.get(f"/v1/status?token={TOKEN}").status_code == 401  # only where it is kept
        page = client.get("/", params={"token": TOKEN})
        assert page.status_code == 200
        assert "token" not in str(page.url)
        assert client.get("/v1/status").status_code == 200  # by the cookie
        cookie = page.history[0].headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert client.get("/v1/status", headers={"origin": "http://x"}).status_code == 403


def test_the_model_says_what_can_be_asked(client):
    model = client.get("/v1/model").json()
    assert model["words"] == tiny.text().words
    assert model["sentence"][1] == ["small", "large"]
    assert model["options"] == json.loads(json.dumps(vars(Options())))
    sheet = picture(model["patches"]["png"])
    assert sheet.shape == (6 * 16, 6 * 16, 3)
    every = tiny.frames().decode(np.full((1, 3, 3), 35))[0, 16:32, 16:32]
    np.testing.assert_array_equal(sheet[-16:, -16:], every)


def test_the_page_and_all_it_names_come_from_here(client):
    page = client.get("/").text
    for name in ("studio.js", "studio.css", "icon.svg"):
        assert f"/static/{name}" in page
        assert client.get(f"/static/{name}").status_code == 200
    for name in ("studio.js", "film.js", "studio.css"):
        assert "http" not in client.get(f"/static/{name}").text.replace("http://www.w3.org", "")
