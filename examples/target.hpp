// What a robot may steer to, or why it must stand still. Needs the message headers only, no rclcpp.
#pragma once

#include <cmath>
#include <optional>
#include <string>

#include "sam2s_ros/msg/tracked_masks.hpp"

struct Target {
  std::optional<sam2s_ros::msg::TrackedObject> object;  // empty: stand still
  std::string why;                                      // one sentence, when it is empty
};

// masks: the newest message, null before the first; now: s, of the clock that stamps the images
// max_age: s since the image was taken; silence: s since the masks came, of a steady clock: with use_sim_time and without
// /clock, now stands still
inline Target target(const sam2s_ros::msg::TrackedMasks * masks, uint32_t object_id, double now, double max_age,
                     double silence) {
  if (masks == nullptr) {
    return {std::nullopt, "no masks so far"};
  }
  const double age = now - masks->header.stamp.sec - 1e-9 * masks->header.stamp.nanosec;
  if (!(std::abs(age) <= max_age)) {  // of the future, too: then the clocks do not agree, and no age is known
    return {std::nullopt, "the newest masks are of " + std::to_string(age) + " s ago"};
  }
  if (!(silence <= max_age)) {
    return {std::nullopt, "the newest masks came " + std::to_string(silence) + " s ago"};
  }
  if (masks->late) {
    return {std::nullopt, "the newest masks came too late"};
  }
  for (const auto & object : masks->objects) {
    if (object.object_id == object_id) {
      if (object.state == sam2s_ros::msg::TrackedObject::STATE_TRACKED) {
        return {object, ""};
      }  // OCCLUDED, LOST, SUSPECT, and whatever may be added
      return {std::nullopt, "the object is in state " + std::to_string(object.state) + ", not TRACKED"};
    }
  }
  return {std::nullopt, "the object is not tracked"};
}
