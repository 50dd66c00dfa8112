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
)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Follows the words where a request is meant to be valid: else most such requests would be refused."""
    is_valid = case.meta is not None and case.meta.generation.mode.is_positive
    if not is_valid or not isinstance(case.body, dict):
        return
    if case.body.get("FailoverTimeout"):
        case.body.pop("Milliseconds", None)
    percent = case.body.get("PercentHealthyStreams")
    if isinstance(percent, float):
        case.body["PercentHealthyStreams"] = round(percent, 6)
    if case.method.upper() == "PUT" and case.body.get("Id"):
        case.body["Id"] = case.path_parameters["groupid"]


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Whether a failure counts: not where a valid request was refused for what is said in words."""
    if type(failure).__name__ != "RejectedPositiveData" or response.status_code != 400:
        return True
    return not any(words in response.json()["Reason"] for words in ONLY_IN_WORDS)
