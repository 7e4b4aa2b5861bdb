"""The checks of `verl doctor --cluster`: the nodes of a Ray cluster."""

from justrl_recipe.doctor.checks import Check
from justrl_recipe.errors import UserError
from justrl_recipe.run import cluster
from justrl_recipe.run.nodes import Demand


def run_checks(given: str | None) -> list[Check]:
    """Ask every node.

    Args:
        given: the address; RAY_ADDRESS without it.

    Raises:
        UserError: no address, or no way into the cluster.
    """
    address = cluster.address(given)
    if address is None:
        raise UserError("which cluster? give --address HOST:PORT, or set RAY_ADDRESS")
    found = cluster.ask(address, [], Demand({"GPU": 1, "CPU": 1}, 0))
    token = "wants a token" if found.token else "wants no token: whoever reaches its port can run code on it"
    return [Check("cluster", "ok", f"{found.address}, {token}"), *(node(of, found.here) for of in found.nodes)]


def node(answer: dict, here: dict) -> Check:
    """What a node has, or what is wrong with it."""
    name = f"node {answer['name']}"
    wrong = list(cluster.of_node(answer, here))
    if not wrong:
        return Check(name, "ok", f"{cluster.room(answer)}; the same versions as here")
    says, fix = "; ".join(problem.why for problem in wrong), wrong[0].fix
    return Check(name, "unknown" if wrong[0].level == "unchecked" else "problem", says, fix)
