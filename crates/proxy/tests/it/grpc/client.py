"""A gRPC client for the tests: `client.py <target> <authority> <root or -> <scenario> ...`."""
import sys, threading, time
from concurrent import futures
import grpc

target, authority, root, *wanted = sys.argv[1:]
most = 32 << 20
options = [
    ("grpc.max_receive_message_length", most),
    ("grpc.max_send_message_length", most),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
]


def channel():
    if root == "-":
        own = options + [("grpc.default_authority", authority)]
        return grpc.insecure_channel(target, options=own)
    credentials = grpc.ssl_channel_credentials(open(root, "rb").read())
    own = options + [("grpc.ssl_target_name_override", authority)]
    return grpc.secure_channel(target, credentials, options=own)


own = channel()
WAIT = 30


def one(method, request, **more):
    return own.unary_unary(f"/test.Test/{method}").with_call(request, timeout=WAIT, **more)


def many(method, request, timeout=WAIT):
    return own.unary_stream(f"/test.Test/{method}")(request, timeout=timeout)


def until(what, look):
    end = time.monotonic() + WAIT
    while not look():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def unary():
    call = own.unary_unary("/test.Test/unary")
    answer, told = call.with_call(b"hello", metadata=(("x-own", "1"),), timeout=WAIT)
    assert answer == b"hello"
    first, last = dict(told.initial_metadata()), dict(told.trailing_metadata())
    assert first["x-name"] and first["x-own"] == "1" and first["x-request-id"], first
    assert last["x-sum"] == "7" and last["x-raw-bin"] == b"\x00\xff", last
    assert "x-sum" not in first


def down():
    assert list(many("down", b"200")) == [str(n).encode() for n in range(200)]
    assert list(many("down", b"0")) == []


def up():
    stream = (bytes(1000) for _ in range(50))
    answer, told = own.stream_unary("/test.Test/up").with_call(stream, timeout=WAIT)
    assert answer == b"50000" and dict(told.trailing_metadata())["x-total"] == "50000"


def both():
    """Each message is sent only when the one before was answered."""
    answered = threading.Semaphore(1)

    def questions():
        for number in range(20):
            assert answered.acquire(timeout=WAIT)
            yield str(number).encode()

    got = []
    for answer in own.stream_stream("/test.Test/both")(questions(), timeout=WAIT):
        got.append(answer)
        answered.release()
    assert got == [b"re: " + str(n).encode() for n in range(20)], got


def fail():
    try:
        one("fail", b"")
        raise SystemExit("no error")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
        assert error.details() == "no: \u00e4 & %", error.details()
        assert dict(error.trailing_metadata())["x-why"] == "because"
    got = []
    try:
        for message in many("fail_late", b""):
            got.append(message)
        raise SystemExit("no error")
    except grpc.RpcError as error:
        assert (got, error.code()) == ([b"one"], grpc.StatusCode.DATA_LOSS), (got, error)
    try:
        one("none", b"")
        raise SystemExit("no error")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


def cancel():
    gone = lambda: int(one("cancelled", b"")[0])
    before = gone()
    late = many("forever", b"", timeout=0.5)
    try:
        list(late)
        raise SystemExit("no deadline")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    until("the deadline at the app", lambda: gone() == before + 1)
    call = many("forever", b"")
    assert next(iter(call)) == b"begun"
    call.cancel()
    until("the cancel at the app", lambda: gone() == before + 2)


def big():
    # Neither side's windows hold it.
    message = bytes(range(256)) * (12 << 12)
    assert one("unary", message)[0] == message


def shared():
    """Many at once share few connections, whatever number the app takes on each."""
    with futures.ThreadPoolExecutor(max_workers=40) as pool:
        answers = list(pool.map(lambda n: one("slow", str(n).encode())[0], range(120)))
    assert answers == [str(n).encode() for n in range(120)]
    print("peers", int(one("peers", b"")[0]))


def refused():
    """What the edge answers itself is a status of gRPC."""
    try:
        one("unary", b"")
        raise SystemExit("no error")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
        print("refused", error.details())


def load():
    """Calls for a while, each by its id; no failure, no wrong answer."""
    seconds, clients = 4.0, 8

    def ask(client):
        ids, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            request_id = f"{authority}-{client}-{len(ids)}".encode()
            assert one("unary", request_id)[0] == request_id
            ids.append(request_id)
        return ids

    with futures.ThreadPoolExecutor(max_workers=clients) as pool:
        answered = [i for ids in pool.map(ask, range(clients)) for i in ids]
    seen = dict(line.rsplit(" ", 1) for line in one("seen", b"")[0].decode().splitlines())
    lost = [i for i in answered if i.decode() not in seen]
    twice = [i for i, count in seen.items() if count != "1"]
    assert not lost and not twice and len(seen) == len(answered), (lost, twice, len(seen))
    print("answered", len(answered))


for name in wanted:
    globals()[name]()
    print("ok", name, flush=True)
