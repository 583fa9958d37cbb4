#include "check.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "../arms/expert_list.hpp"

namespace bench::backward {

namespace {

using Values = std::vector<double>;

/// Three or so of `count` numbers, first and last among them.
std::set<std::size_t> some_of(std::size_t count, std::size_t parts) {
    std::set<std::size_t> result;
    for (std::size_t i = 0; i <= parts; ++i) {
        result.insert(i * (count - 1) / parts);
    }
    return result;
}

/// Experts of the call whose gradients are looked at, those of no token not among them.
std::vector<ExpertRows> some_experts(const Shape& shape, const Call& call) {
    const std::vector<ExpertRows> all = expert_rows(call.batch.plans[call.variant].view(), shape);
    std::vector<ExpertRows> result;
    for (const std::size_t i : some_of(all.size(), 3)) {
        result.push_back(all[i]);
    }
    return result;
}

std::string name_of(const Shape& shape, std::size_t e, const char* matrix) {
    return e < shape.n_experts ? matrix : std::string("shared ") + matrix;
}

/// d_x of x times sigmoid(x).
double silu_derivative(double x, double sigmoid) { return sigmoid * (1 + x * (1 - sigmoid)); }

double dot(const float* a, const float* b, std::size_t n) {
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
        sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    }
    return sum;
}

/// What one hidden unit of an expert has to do with one token.
struct Unit {
    double hidden;
    double d_weight;  ///< its part of the gradient of the expert's weight
    double d_gate;
    double d_up;
};

class Definition {
public:
    Definition(const Threads& threads, const Shape& shape, const Parameters& weights)
        : threads_(threads), shape_(shape), weights_(weights) {}

    [[nodiscard]] Unit unit(std::size_t e, std::size_t i, double weight, const float* x, const float* dy) const {
        const std::size_t d = shape_.d_model;
        const std::size_t d_ff = expert_width(shape_, e);
        const double g = dot(weights_.matrix(Matrix::gate, e) + i * d, x, d);
        const double u = dot(weights_.matrix(Matrix::up, e) + i * d, x, d);
        const float* const down = weights_.matrix(Matrix::down, e);
        double q = 0;
        for (std::size_t o = 0; o < d; ++o) {
            q += static_cast<double>(down[o * d_ff + i]) * static_cast<double>(dy[o]);
        }
        const double s = 1 / (1 + std::exp(-g));
        return {g * s * u, g * s * u * q, weight * q * u * silu_derivative(g, s), weight * q * g * s};
    }

    /// Adds an expert's part to dx of a token; returns the gradient of its weight.
    double add_input(std::size_t e, double weight, const float* x, const float* dy, Values& dx) const {
        const std::size_t d = shape_.d_model;
        std::vector<Unit> units(expert_width(shape_, e));
        threads_.split(units.size(), 8, [&](std::size_t begin, std::size_t end) {
            for (std::size_t i = begin; i < end; ++i) {
                units[i] = unit(e, i, weight, x, dy);
            }
        });
        const float* const gate = weights_.matrix(Matrix::gate, e);
        const float* const up = weights_.matrix(Matrix::up, e);
        threads_.split(d, 16, [&](std::size_t begin, std::size_t end) {
            for (std::size_t i = 0; i < units.size(); ++i) {
                for (std::size_t k = begin; k < end; ++k) {
                    dx[k] += units[i].d_gate * static_cast<double>(gate[i * d + k]) +
                             units[i].d_up * static_cast<double>(up[i * d + k]);
                }
            }
        });
        return std::accumulate(units.begin(), units.end(), 0.0,
                               [](double sum, const Unit& one) { return sum + one.d_weight; });
    }

private:
    const Threads& threads_;
    const Shape& shape_;
    const Parameters& weights_;
};

/// Gradient of the logit of assignment `a` of token `t`: weights are the softmax of the logits of a token's experts.
template <class DWeights>
double d_logit(const moe::PlanView<float>& plan, std::size_t t, std::size_t a, const DWeights& d_weights) {
    double mean = 0;
    for (std::size_t i = plan.token_offsets[t]; i < plan.token_offsets[t + 1]; ++i) {
        mean += static_cast<double>(plan.weights[i]) * static_cast<double>(d_weights[i]);
    }
    return static_cast<double>(plan.weights[a]) * (static_cast<double>(d_weights[a]) - mean);
}

/// dx and d_weights of the last token.
void add_last_token(const Definition& definition, const Shape& shape, const Call& call, const Parameters& weights,
                    Sample& sample) {
    const auto plan = call.batch.plans[call.variant].view();
    const std::size_t t = call.batch.tokens() - 1;
    const float* const x = call.batch.x.row(t);
    const float* const dy = call.dy.row(t);
    Values dx(shape.d_model);
    Values d_weights(plan.n_assignments());
    for (std::size_t a = plan.token_offsets[t]; a < plan.token_offsets[t + 1]; ++a) {
        const auto e = static_cast<std::size_t>(plan.experts[a]);
        d_weights[a] = definition.add_input(e, static_cast<double>(plan.weights[a]), x, dy, dx);
        sample["d_weights"].push_back(d_weights[a]);
    }
    if (shape.shared_d_ff > 0) {
        (void)definition.add_input(shape.n_experts, 1, x, dy, dx);
    }
    for (std::size_t a = plan.token_offsets[t]; a < plan.token_offsets[t + 1]; ++a) {
        const float* const row =
            weights.matrix(Matrix::router, 0) + static_cast<std::size_t>(plan.experts[a]) * shape.d_model;
        const double gradient = d_logit(plan, t, a, d_weights);
        for (std::size_t k = 0; k < shape.d_model; ++k) {
            dx[k] += gradient * static_cast<double>(row[k]);
        }
    }
    sample["dx"] = dx;
}

}  // namespace

Sample computed_sample(const Shape& shape, const Call& call, const Parameters& gradients,
                       moe::MatrixView<const float> dx, std::span<const float> d_weights) {
    Sample sample;
    const auto plan = call.batch.plans[call.variant].view();
    const std::size_t t = call.batch.tokens() - 1;
    const std::span<const float> last = d_weights.subspan(plan.token_offsets[t], plan.experts_of(t).size());
    sample["d_weights"] = Values(last.begin(), last.end());
    sample["dx"] = Values(dx.row(t), dx.row(t) + shape.d_model);
    const std::set<std::size_t> columns = some_of(shape.d_model, 7);
    for (const ExpertRows& rows : some_experts(shape, call)) {
        const std::size_t e = rows.expert;
        const std::size_t d_ff = expert_width(shape, e);
        for (const std::size_t k : columns) {
            for (const std::size_t i : some_of(d_ff, 2)) {
                const auto add = [&](const char* name, Matrix which, std::size_t at) {
                    sample[name_of(shape, e, name)].push_back(static_cast<double>(gradients.matrix(which, e)[at]));
                };
                add("gate", Matrix::gate, i * shape.d_model + k);
                add("up", Matrix::up, i * shape.d_model + k);
                add("down", Matrix::down, k * d_ff + i);
            }
            if (e < shape.n_experts) {
                sample["router"].push_back(
                    static_cast<double>(gradients.matrix(Matrix::router, 0)[e * shape.d_model + k]));
            }
        }
    }
    return sample;
}

Sample expected_sample(const Threads& threads, const Shape& shape, const Call& call, const Parameters& weights,
                       std::span<const float> d_weights) {
    const Definition definition(threads, shape, weights);
    const auto plan = call.batch.plans[call.variant].view();
    Sample sample;
    add_last_token(definition, shape, call, weights, sample);
    const std::set<std::size_t> columns = some_of(shape.d_model, 7);
    for (const ExpertRows& rows : some_experts(shape, call)) {
        const std::size_t e = rows.expert;
        const std::set<std::size_t> units = some_of(expert_width(shape, e), 2);
        // sums over the tokens of the expert, by input or output, then unit
        std::map<std::string, Values> sums;
        for (std::size_t r = 0; r < rows.tokens.size(); ++r) {
            const std::size_t t = rows.tokens[r];
            const float* const x = call.batch.x.row(t);
            const float* const dy = call.dy.row(t);
            const auto weight = static_cast<double>(rows.weights[r]);
            std::vector<Unit> values;
            for (const std::size_t i : units) {
                values.push_back(definition.unit(e, i, weight, x, dy));
            }
            std::size_t at = 0;
            std::size_t column = 0;
            const auto add = [&](const std::string& name, std::size_t index, double value) {
                Values& to = sums[name];
                to.resize(std::max(to.size(), index + 1));
                to[index] += value;
            };
            for (const std::size_t k : columns) {
                for (const Unit& value : values) {
                    add(name_of(shape, e, "gate"), at, value.d_gate * static_cast<double>(x[k]));
                    add(name_of(shape, e, "up"), at, value.d_up * static_cast<double>(x[k]));
                    add(name_of(shape, e, "down"), at++, weight * value.hidden * static_cast<double>(dy[k]));
                }
                if (e < shape.n_experts) {
                    const double gradient = d_logit(plan, t, rows.assignments[r], d_weights);
                    add("router", column++, gradient * static_cast<double>(x[k]));
                }
            }
        }
        for (const auto& [name, values] : sums) {
            sample[name].insert(sample[name].end(), values.begin(), values.end());
        }
    }
    return sample;
}

SampleError largest_error(const Sample& computed, const Sample& expected) {
    SampleError largest;
    for (const auto& [name, values] : expected) {
        const Values& found = computed.at(name);
        double error = found.size() == values.size() ? 0 : std::nan("");
        double power = 0;
        for (std::size_t i = 0; i < std::min(found.size(), values.size()); ++i) {
            error += (found[i] - values[i]) * (found[i] - values[i]);
            power += values[i] * values[i];
        }
        const double nmse = error / power;
        if (largest.name.empty() || !(nmse <= largest.nmse)) {
            largest = {name, nmse};
            if (std::isnan(nmse)) {
                break;
            }
        }
    }
    return largest;
}

}  // namespace bench::backward
