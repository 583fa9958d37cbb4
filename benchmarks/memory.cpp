#include "memory.hpp"

#include <fstream>
#include <new>
#include <string>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

namespace bench {

namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20U;

/// Field of /proc/meminfo in bytes.
std::size_t memory_field(const std::string& wanted) {
    std::ifstream file("/proc/meminfo");
    std::string name;
    std::string unit;
    std::size_t kilobytes = 0;
    while (file >> name >> kilobytes) {
        std::getline(file, unit);
        if (name == wanted) {
            return kilobytes * 1024;
        }
    }
    return 0;
}

}  // namespace

HugeBuffer::HugeBuffer(std::size_t bytes) : bytes_((bytes + huge_page - 1) / huge_page * huge_page) {
    if (bytes_ == 0) {
        return;
    }
    data_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data_ == MAP_FAILED) {
        data_ = nullptr;
        throw std::bad_alloc();
    }
#if defined(MADV_HUGEPAGE)
    (void)madvise(data_, bytes_, MADV_HUGEPAGE);  // a wish: where it is refused the measurement is still right
#endif
}

HugeBuffer::HugeBuffer(HugeBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

HugeBuffer& HugeBuffer::operator=(HugeBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

HugeBuffer::~HugeBuffer() {
    if (data_ != nullptr) {
        munmap(data_, bytes_);
    }
}

std::size_t available_memory() { return memory_field("MemAvailable:"); }
std::size_t total_memory() { return memory_field("MemTotal:"); }

std::size_t last_level_cache() {
    std::size_t largest = 0;
    for (int index = 0; index < 8; ++index) {
        std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/size");
        std::size_t size = 0;
        char unit = 'K';
        if (file >> size >> unit) {
            largest = std::max(largest, size * (unit == 'M' ? std::size_t{1} << 20U : 1024));
        }
    }
    return largest;
}

}  // namespace bench
