"""What the description says in words only, because a schema cannot."""

import schemathesis

ONLY_IN_WORDS = (
    # FailoverTimeout and Milliseconds are the same duration.
    "they disagree.",
    # A number's digits have no keyword.
    "a decimal number from 0 to 100 with at most 28 digits",
    # An Id in the body of PUT is that of the path.
    "in the path.",
    # A new name holds nothing that is hidden; one that is there already keeps it.
    "which is not seen, or changes the order of what is.",
    # An id that adapters could not ask for.
    "adapters put it into a path as it is",
    # A length in bytes, and a depth, have no keyword.
    "null or an object of at most 16 KiB",
    # One of two ends, and one of two directions.
    "For and Until are both given.",
    "before and after are given together.",
    # Only of a forced one.
    "left out where Wish is Excluded",
)


# What is kept of a group that was deleted.
HISTORY = ("/lifetimes", "/transitions", "/events")


@schemathesis.hook
def before_call(context, case, kwargs):
    """Follows the words where a request is meant to be valid: else most such requests would be refused."""
    is_valid = case.meta is not None and case.meta.generation.mode.is_positive
    if not is_valid or not isinstance(case.body, dict):
        return
    if case.body.get("FailoverTimeout"):
        case.body.pop("Milliseconds", None)
    if case.path.endswith("/heartbeat") and case.body.get("FailoverScore") is None:
        # One of two has to be there.
        case.body["FailoverScore"] = 50
    for name in ("PercentHealthyStreams", "FailoverScore", "FailoverStatus"):
        if isinstance(case.body.get(name), float):
            case.body[name] = round(case.body[name], 6)
    if case.method.upper() == "PUT" and case.body.get("Id"):
        case.body["Id"] = case.path_parameters["groupid"]


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Whether a failure counts: not where a valid request was refused for what is said in words."""
    if "" in (case.path_parameters or {}).values():
        # An empty name counts as none: it is the path of the list.
        return False
    if type(failure).__name__ == "UseAfterFree" and case.path.endswith(HISTORY):
        return False
    if type(failure).__name__ != "RejectedPositiveData" or response.status_code != 400:
        return True
    return not any(words in response.json()["Reason"] for words in ONLY_IN_WORDS)
