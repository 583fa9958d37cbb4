#pragma once

#include <string>

#include "../generate/checkpoint.hpp"
#include "model.hpp"

namespace trainer {

/// A model as generate::Model reads it: the folder of a published checkpoint.
class PublishedModel {
public:
    /// Reads config.json and looks at each tensor of model.safetensors. Throws moe::Error when one is missing or
    /// damaged, before there is memory for any weights.
    explicit PublishedModel(const std::string& directory);

    [[nodiscard]] const Config& config() const noexcept { return config_; }

    /// The weights into a model of that config, experts one behind the other, gate before up.
    void copy_to(Model<float>& model) const;

private:
    Config config_;
    generate::Checkpoint file_;
};

}  // namespace trainer
