// Estimators of the gradient of a choice, where all choices can be counted: which are exact for which losses.

#include <moe/gating/adaptors/sampled.hpp>
#include <moe/gating/strategies/reinmax.hpp>
#include <moe/gating/strategies/sparse_mixer.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/reference/routing.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "gating/backward_support.hpp"
#include "support/catch.hpp"

namespace moe_test::estimators_test {

namespace reference = moe::reference;

namespace {

using reference::Vector;

constexpr std::size_t n = 4;
const Vector logits{0.3, -0.7, 1.1, 0.2};
constexpr std::size_t best = 2;
const Vector p = reference::softmax(logits);

/// A polynomial of a token's output, up to a degree, and its slope.
struct Polynomial {
    std::array<double, 5> c{};
    int degree = 4;
    [[nodiscard]] double operator()(double w) const {
        double sum = 0;
        for (int i = degree; i >= 0; --i) {
            sum = sum * w + c[static_cast<std::size_t>(i)];
        }
        return sum;
    }
    [[nodiscard]] double slope(double w) const {
        double sum = 0;
        for (int i = degree; i >= 1; --i) {
            sum = sum * w + i * c[static_cast<std::size_t>(i)];
        }
        return sum;
    }
};

/// The loss where expert e was chosen with weight w: one polynomial an expert.
struct ScalarLoss {
    std::array<Polynomial, n> of;
    explicit ScalarLoss(int degree, std::uint64_t seed = 3) {
        Dice dice{seed};
        for (Polynomial& polynomial : of) {
            polynomial.degree = degree;
            for (double& c : polynomial.c) {
                c = static_cast<double>(dice.uniform(-2, 2));
            }
        }
    }
};

/// The loss of a one-hot vector D: a polynomial of <b, D> + <v, D> + <D, Q D> in which the degree is that of the part
/// which is not linear.
struct VectorLoss {
    Vector v, b, q;
    int degree;
    explicit VectorLoss(int the_degree) : degree(the_degree) {
        Dice dice{5};
        v = random_doubles(dice, n, -1, 1);
        b = random_doubles(dice, n, -2, 2);
        q = random_doubles(dice, n * n, -1, 1);
    }
    [[nodiscard]] double value(const Vector& d) const {
        double along = 0;
        double sum = 0;
        for (std::size_t i = 0; i < n; ++i) {
            sum += v[i] * d[i];
            along += b[i] * d[i];
            for (std::size_t j = 0; j < n && degree >= 2; ++j) {
                sum += d[i] * q[i * n + j] * d[j];
            }
        }
        return sum + (degree >= 3 ? along * along * along : 0);
    }
    [[nodiscard]] double value_of(std::size_t e) const { return value(one_hot(e)); }
    [[nodiscard]] Vector gradient_of(std::size_t e) const {
        Vector g = v;
        for (std::size_t i = 0; i < n; ++i) {
            g[i] += degree >= 2 ? q[i * n + e] + q[e * n + i] : 0;
            g[i] += degree >= 3 ? 3 * b[e] * b[e] * b[i] : 0;
        }
        return g;
    }
    static Vector one_hot(std::size_t e) {
        Vector d(n, 0.0);
        d[e] = 1;
        return d;
    }
};

/// d sum_e p_e(l) f_e / d l, by central differences.
Vector slope_of_mean(const Vector& f) {
    constexpr double step = 1e-5;
    Vector slopes(n);
    const auto mean = [&](std::size_t i, double by) {
        Vector moved = logits;
        moved[i] += by;
        const Vector of_moved = reference::softmax(moved);
        double sum = 0;
        for (std::size_t e = 0; e < n; ++e) {
            sum += of_moved[e] * f[e];
        }
        return sum;
    };
    for (std::size_t i = 0; i < n; ++i) {
        slopes[i] = (mean(i, step) - mean(i, -step)) / (2 * step);
    }
    return slopes;
}

/// Of a gate that draws: what it may draw, with which probability, and the gradient it then gives. The outcome is the
/// first expert and whether its weight is less than its probability.
using Outcome = std::pair<std::size_t, bool>;
struct Estimate {
    double probability = 0;
    Vector gradient;
};

/// The gradients of the weights of what was chosen.
using Slopes = std::function<Vector(const Chosen<double>&)>;

template <class Gate>
std::pair<Outcome, Vector> draw(const Gate& gate, std::uint64_t position, const Slopes& slopes) {
    const moe::TokenContext context{-1, position};
    const Chosen<double> chosen = choose<double>(gate, logits, n, context);
    const auto e = static_cast<std::size_t>(chosen.experts[0]);
    return {{e, chosen.weights[0] < 0.9 * p[e]}, gradient<double>(gate, logits, n, chosen, slopes(chosen), context)};
}

/// All outcomes, each at a position where the gate draws it.
template <class Gate>
std::map<Outcome, Estimate> outcomes(const Gate& gate, const std::map<Outcome, double>& probabilities,
                                     const Slopes& slopes) {
    std::map<Outcome, Estimate> found;
    for (std::uint64_t position = 0; position < 10000 && found.size() < probabilities.size(); ++position) {
        const auto [outcome, of_draw] = draw(gate, position, slopes);
        REQUIRE(probabilities.count(outcome) == 1);
        found[outcome] = {probabilities.at(outcome), of_draw};
    }
    REQUIRE(found.size() == probabilities.size());
    return found;
}

std::map<Outcome, double> one_of_all() {
    std::map<Outcome, double> probabilities;
    for (std::size_t e = 0; e < n; ++e) {
        probabilities[{e, false}] = p[e];
    }
    return probabilities;
}
/// SparseMixer's: a third of the weight in 3 of 4 draws of experts that are not the best.
std::map<Outcome, double> sparse_mixers() {
    std::map<Outcome, double> probabilities = one_of_all();
    for (std::size_t e = 0; e < n; ++e) {
        if (e != best) {
            probabilities[{e, false}] = p[e] / 4;
            probabilities[{e, true}] = p[e] * 3 / 4;
        }
    }
    return probabilities;
}

Vector mean_of(const std::map<Outcome, Estimate>& all) {
    Vector mean(n, 0.0);
    for (const auto& [outcome, estimate] : all) {
        for (std::size_t i = 0; i < n; ++i) {
            mean[i] += estimate.probability * estimate.gradient[i];
        }
    }
    return mean;
}

/// The largest difference, as part of the largest slope; infinite for NaN.
double distance(const Vector& a, const Vector& b) {
    double largest = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const double difference = std::abs(a[i] - b[i]);
        largest = difference <= largest ? largest : difference;
        REQUIRE(std::isfinite(difference));
    }
    return largest / most(b);
}

constexpr double exact = 1e-8;  // of differences with a step of 1e-5
constexpr double off = 0.02;

moe::SparseMixer unmasked_mixer() { return {.jitter = 1e9, .training = true, .seed = 11}; }
moe::Sampled<moe::TokenChoice<>> sampled_one() { return {.gate = {.top_k = 1}, .seed = 12}; }

/// The slope of the loss at the weight that was given, 0 for a second round.
Slopes slopes_of(const ScalarLoss& loss) {
    return [&loss](const Chosen<double>& chosen) {
        Vector d(chosen.experts.size(), 0.0);
        d[0] = loss.of[static_cast<std::size_t>(chosen.experts[0])].slope(chosen.weights[0]);
        return d;
    };
}
Slopes slopes_of(const VectorLoss& loss) {
    return [&loss](const Chosen<double>& chosen) {
        const Vector g = loss.gradient_of(static_cast<std::size_t>(chosen.experts[0]));
        Vector d;
        for (const moe::ExpertId e : chosen.experts) {
            d.push_back(g[static_cast<std::size_t>(e)]);
        }
        return d;
    };
}

/// The part of the gradient that comes from the choice, in which an expert is worth F_e(p_e) - F_e(0), but
/// `first_order` p_e F_e'(p_e).
Vector routing_part(const ScalarLoss& loss, std::size_t first_order = n) {
    Vector worth(n);
    for (std::size_t e = 0; e < n; ++e) {
        worth[e] = e == first_order ? p[e] * loss.of[e].slope(p[e]) : loss.of[e](p[e]) - loss.of[e](0);
    }
    return slope_of_mean(worth);
}

Vector losses_of(const VectorLoss& loss) {
    Vector values(n);
    for (std::size_t e = 0; e < n; ++e) {
        values[e] = loss.value_of(e);
    }
    return values;
}

/// The mean over 1e5 draws within 5 standard errors of `all`, the mean over what can be drawn.
template <class Gate>
void hold_mean(Gate gate, const std::map<Outcome, Estimate>& all, const Slopes& slopes) {
    constexpr std::uint64_t n_draws = 100000;
    Vector sum(n, 0.0);
    for (std::uint64_t i = 0; i < n_draws; ++i) {
        gate.step = i / 1000;
        const Vector of_draw = draw(gate, i % 1000, slopes).second;
        for (std::size_t e = 0; e < n; ++e) {
            sum[e] += of_draw[e];
        }
    }
    const Vector mean = mean_of(all);
    for (std::size_t e = 0; e < n; ++e) {
        double variance = 0;
        for (const auto& [outcome, estimate] : all) {
            variance += estimate.probability * (estimate.gradient[e] - mean[e]) * (estimate.gradient[e] - mean[e]);
        }
        REQUIRE(variance > 0);
        CHECK(std::abs(sum[e] / n_draws - mean[e]) <= 5 * std::sqrt(variance / n_draws));
    }
}

}  // namespace

TEST_CASE("straight-through is exact for linear losses, ReinMax for quadratic ones", "[estimators]") {
    const auto error = [](int order, double temperature, int degree) {
        const VectorLoss loss(degree);
        const moe::ReinMax gate{.order = order, .temperature = temperature, .seed = 10};
        return distance(mean_of(outcomes(gate, one_of_all(), slopes_of(loss))), slope_of_mean(losses_of(loss)));
    };
    CHECK(error(1, 1, 1) < exact);
    CHECK(error(1, 1, 2) > off);
    CHECK(error(1, 1, 3) > off);
    CHECK(error(2, 1, 1) < exact);
    CHECK(error(2, 1, 2) < exact);
    CHECK(error(2, 1, 3) > off);
    CHECK(error(2, 1.5, 2) > off);
    CHECK(error(2, 1, 2) < error(1, 1, 2));
}

TEST_CASE("the gradient of what was drawn is exact for losses linear in the weight", "[estimators]") {
    const auto error = [](int degree) {
        const ScalarLoss loss(degree);
        return distance(mean_of(outcomes(sampled_one(), one_of_all(), slopes_of(loss))), routing_part(loss));
    };
    CHECK(error(1) < exact);
    CHECK(error(2) > off);
    CHECK(error(3) > off);
}

TEST_CASE("SparseMixer is exact for losses cubic in the weight, but for the best expert", "[estimators]") {
    const auto error = [](int degree, std::size_t first_order) {
        const ScalarLoss loss(degree);
        return distance(mean_of(outcomes(unmasked_mixer(), sparse_mixers(), slopes_of(loss))),
                        routing_part(loss, first_order));
    };
    CHECK(error(1, n) < exact);
    CHECK(error(2, n) > off);
    CHECK(error(2, best) < exact);
    CHECK(error(3, best) < exact);
    // of degree 4 the rule leaves c w^4 / 27, and w is small
    CHECK(error(4, best) > 100 * exact);
}

TEST_CASE("the mean over many draws is the mean over what can be drawn", "[estimators]") {
    const ScalarLoss scalar(3);
    const VectorLoss vector(3);
    hold_mean(sampled_one(), outcomes(sampled_one(), one_of_all(), slopes_of(scalar)), slopes_of(scalar));
    hold_mean(unmasked_mixer(), outcomes(unmasked_mixer(), sparse_mixers(), slopes_of(scalar)), slopes_of(scalar));
    for (const int order : {1, 2}) {
        const moe::ReinMax gate{.order = order, .seed = 13};
        hold_mean(gate, outcomes(gate, one_of_all(), slopes_of(vector)), slopes_of(vector));
    }
}

TEST_CASE("SparseMixer weighs a quarter of the draws whole", "[estimators]") {
    constexpr int n_draws = 40000;
    std::array<int, n> drawn{};
    std::array<int, 2> others{};
    std::array<int, 2> whole{};
    const moe::SparseMixer gate = unmasked_mixer();
    for (int i = 0; i < n_draws; ++i) {
        const auto chosen = choose<double>(gate, logits, n, {-1, static_cast<std::uint64_t>(i)});
        Vector left = logits;
        for (std::size_t round = 0; round < 2; ++round) {
            const auto e = static_cast<std::size_t>(chosen.experts[round]);
            const double of_round = reference::softmax(left)[e];
            const bool is_best = static_cast<std::size_t>(reference::top_k(left, 1)[0]) == e;
            const bool is_whole = std::abs(chosen.weights[round] - of_round) < 1e-14;
            REQUIRE((is_whole || (!is_best && std::abs(chosen.weights[round] - of_round / 3) < 1e-14)));
            others[round] += !is_best;
            whole[round] += !is_best && is_whole;
            drawn[e] += round == 0;
            left[e] = -std::numeric_limits<double>::infinity();
        }
    }
    const auto hold = [](int hits, double chance, int of) {
        CHECK(std::abs(hits - chance * of) <= 5 * std::sqrt(chance * (1 - chance) * of));
    };
    for (std::size_t e = 0; e < n; ++e) {
        hold(drawn[e], p[e], n_draws);
    }
    for (std::size_t round = 0; round < 2; ++round) {
        CHECK(others[round] > n_draws / 10);
        hold(whole[round], 0.25, others[round]);
    }
}

}  // namespace moe_test::estimators_test
